# Answers one HTTP request: counts the visits of a path in valkey.
read -r method path protocol
while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
case $path in
/*[!a-z0-9/]* | "") status='400 Bad Request' body='bad path' ;;
*)
    answer=$(printf 'INCR visits:%s\r\nQUIT\r\n' "$path" | nc -w 5 127.0.0.1 6379 | head -n 1 | tr -d '\r')
    case $answer in
    :*) status='200 OK' body=${answer#:} ;;
    *) status='503 Service Unavailable' body='no valkey' ;;
    esac
    ;;
esac
printf 'HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s' "$status" "${#body}" "$body"
