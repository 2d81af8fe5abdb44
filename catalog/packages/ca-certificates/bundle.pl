# Prints as PEM every certificate of the crate webpki-root-certs: in its
# src/lib.rs each is a comment with the name, then a byte string in DER.
use strict;
use warnings;
use MIME::Base64 qw(encode_base64);

my ( $name, $count ) = ( undef, 0 );
binmode STDOUT;
while ( my $line = <> ) {
    if ( $line =~ m{^\s*// "(.*)"\s*$} ) {
        $name = $1;
    }
    elsif ( $line =~ /CertificateDer::from_slice\(b"((?:[^"\\]|\\.)*)"/ ) {
        my $literal = $1;
        die "line $.: a certificate without a name\n" unless defined $name;
        my $der = '';
        while ( $literal =~ /\G(?:\\x([0-9A-Fa-f]{2})|\\(.)|(.))/gs ) {
            if    ( defined $1 ) { $der .= chr hex $1 }
            elsif ( defined $3 ) { $der .= $3 }
            else {
                my %escape = ( n => "\n", r => "\r", t => "\t", 0 => "\0", '\\' => '\\', '"' => '"', q(') => q(') );
                die "line $.: unknown escape `\\$2`\n" unless exists $escape{$2};
                $der .= $escape{$2};
            }
        }
        # SEQUENCE with a two-byte length that covers exactly what follows.
        my ( $tag, $form, $length ) = unpack 'CCn', $der;
        die "line $.: `$name` isn't one DER sequence\n"
            unless $tag == 0x30 && $form == 0x82 && $length == length($der) - 4;
        my $body = encode_base64( $der, '' );
        $body =~ s/(.{1,64})/$1\n/g;
        print "# $name\n-----BEGIN CERTIFICATE-----\n$body-----END CERTIFICATE-----\n\n";
        ( $name, $count ) = ( undef, $count + 1 );
    }
}
die "only $count certificates: the crate's layout changed\n" if $count < 100;
