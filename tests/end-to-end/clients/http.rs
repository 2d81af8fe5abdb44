//! `/apk/` gives out packages, indexes and public keys, whatever is asked for.

use std::fs;

use crate::support::Server;

#[test]
fn nothing_but_packages_and_public_keys_is_ever_served() {
    let home = tempfile::tempdir().unwrap();
    let file = |path: &str, content: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    file("apk/x86_64/APKINDEX.tar.gz", "index");
    file("apk/x86_64/some-1-r0.apk", "package");
    file("apk/x86_64/.some-2-r0.apk", "SECRET half written");
    file("apk/x86_64/folder/file", "SECRET");
    file("apk/secret.apk", "SECRET");
    file("keys/minimill.rsa", "SECRET");
    file("keys/minimill.pem", "SECRET");
    file("keys/minimill.rsa.pub", "public");
    file("state.sqlite", "SECRET");
    let server = Server::start(home.path());

    assert_eq!(server.get("/apk/x86_64/APKINDEX.tar.gz"), b"index");
    assert_eq!(server.get("/apk/x86_64/some-1-r0.apk"), b"package");
    assert_eq!(server.get("/apk/keys/minimill.rsa.pub"), b"public");
    let head = server.ask("HEAD", "/apk/x86_64/some-1-r0.apk");
    assert_eq!((head.status, head.body.as_slice()), (200, b"".as_slice()));
    assert!(head.head.to_lowercase().contains("content-length: 7"), "{}", head.head);

    for path in [
        "/apk/keys/minimill.rsa",
        "/apk/keys/minimill.pem",
        "/apk/keys/../keys/minimill.rsa",
        "/apk/keys/..%2fkeys%2fminimill.rsa",
        "/apk/keys/..%2f..%2fstate.sqlite%00.pub",
        "/apk/x86_64/../../keys/minimill.rsa",
        "/apk/x86_64/..%2f..%2fkeys%2fminimill.rsa",
        "/apk/x86_64/%2e%2e%2f%2e%2e%2fkeys%2fminimill.rsa",
        "/apk/x86_64/..%5c..%5ckeys%5cminimill.rsa",
        "/apk/x86_64/..",
        "/apk/x86_64/%2e%2e",
        "/apk/x86_64/.",
        "/apk/x86_64/",
        "/apk/x86_64",
        "/apk/x86_64/.some-2-r0.apk",
        "/apk/x86_64/%2esome-2-r0.apk",
        "/apk/x86_64/folder",
        "/apk/x86_64/folder%2ffile",
        "/apk/x86_64/folder/file",
        "/apk/x86_64/%2fetc%2fpasswd",
        "/apk/x86_64//etc/passwd",
        "/apk/x86_64/absent-1-r0.apk",
        "/apk/../apk/secret.apk",
        "/apk/./secret.apk",
        "/apk/%2e/secret.apk",
        "/apk/%2e%2e/state.sqlite",
        "/apk/..%2fapk/secret.apk",
        "/apk//secret.apk",
        "/apk/x86_64%2f..%2f/secret.apk",
        "/apk/amd64/some-1-r0.apk",
        "/apk/",
        "/apk",
        "/state.sqlite",
        "/../state.sqlite",
    ] {
        let answer = server.ask("GET", path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
        assert!(!String::from_utf8_lossy(&answer.body).contains("SECRET"), "{path}");
    }
    // What is no name at all may be called a bad request instead, but is not served either.
    for path in ["/apk/x86_64/%ff%fe", "/apk/x86_64/%", "/apk/x86_64/%00"] {
        let answer = server.ask("GET", path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.head);
    }
    assert_eq!(server.ask("PUT", "/apk/x86_64/some-1-r0.apk").status, 405);
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_name_too_long_for_any_file_is_not_found() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let answer = server.ask("GET", &format!("/apk/x86_64/{}", "a".repeat(5000)));
    assert_eq!(answer.status, 404, "{}", answer.head);
}
