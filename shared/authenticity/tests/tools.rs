//! What gpg, minisign, signify, ssh-keygen and git write, as they are installed here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::path::Path;

use authenticity::{
    Checksums, Error, Evidence, GitKeys, Judged, Keyring, MinisignKey, ObjectKind, SignifyKey, SshSigners, object_id,
    verify_clear_signed, verify_detached, verify_git,
};
use jiff::Timestamp;
use tests::tools::{Gpg, run};

const DATA: &[u8] = b"what upstream released\n";

fn ring(key: &[u8]) -> Keyring {
    Keyring::parse([("key.asc", key)]).unwrap()
}

fn check(keyring: &Keyring, signature: &[u8], data: &[u8]) -> authenticity::Result<Evidence> {
    verify_detached(keyring, signature, data, Judged::AtSigning, Timestamp::now())
}

#[test]
fn gpg_signs_and_every_change_shows() {
    let Some(gpg) = Gpg::new("up@example.org", "rsa3072") else { return };
    let key = gpg.public_key("up@example.org");
    let armored = gpg.sign(DATA);
    let binary = gpg.run(&["--detach-sign"], DATA).unwrap();
    let keyring = ring(&key);
    for signature in [&armored, &binary] {
        let evidence = check(&keyring, signature, DATA).unwrap();
        let Evidence::Openpgp { signers, .. } = &evidence else { panic!("{evidence:?}") };
        assert!(signers[0].user.contains("up@example.org"), "{signers:?}");
        assert!(matches!(check(&keyring, signature, b"what upstream released"), Err(Error::Signature { .. })));
    }
    // Binary keyrings and pins.
    let exported = gpg.run(&["--export"], b"").unwrap();
    let fingerprint = ring(&exported).fingerprints()[0].clone();
    let upper = fingerprint.to_uppercase();
    let spaced = upper.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part).into_owned());
    let pinned = ring(&exported).pinned(&[spaced.collect::<Vec<_>>().join(" ")]).unwrap();
    check(&pinned, &armored, DATA).unwrap();
    assert!(matches!(ring(&exported).pinned(&["0".repeat(40)]), Err(Error::Key { .. })));
    assert!(matches!(ring(&exported).pinned(&[fingerprint[24..].to_owned()]), Err(Error::Key { .. })));
    // A damaged, cut or huge signature.
    for at in (0..binary.len()).step_by(17) {
        let mut damaged = binary.clone();
        damaged[at] ^= 0x20;
        let unhashed_only = check(&keyring, &damaged, DATA);
        assert!(unhashed_only.is_err() || at > 8, "byte {at}");
    }
    let mut damaged = binary.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(check(&keyring, &damaged, DATA), Err(Error::Signature { .. })));
    for cut in 0..binary.len() {
        assert!(check(&keyring, &binary[..cut], DATA).is_err(), "{cut} bytes");
    }
    assert!(matches!(check(&keyring, &vec![b'-'; 1 << 20], DATA), Err(Error::TooLarge { .. })));
    assert!(matches!(check(&keyring, b"<html>not found</html>", DATA), Err(Error::Malformed { .. })));
    assert!(matches!(check(&keyring, &key, DATA), Err(Error::Malformed { .. })));
    // Weak digests.
    for weak in ["SHA1", "RIPEMD160"] {
        let signature = gpg.run(&["--digest-algo", weak, "--detach-sign"], DATA).unwrap();
        let error = check(&keyring, &signature, DATA).unwrap_err().to_string();
        assert!(error.contains("too weak"), "{weak}: {error}");
    }
    // Somebody else.
    let Some(other) = Gpg::new("other@example.org", "ed25519") else { return };
    let (other_key, foreign) = (other.public_key("other@example.org"), other.sign(DATA));
    let error = check(&keyring, &foreign, DATA).unwrap_err().to_string();
    assert!(error.contains("not a key of the keyring"), "{error}");
    // Both are named: who signed, and who should have.
    for name in [other.fingerprint("other@example.org"), fingerprint.clone(), "up@example.org".to_owned()] {
        assert!(error.contains(&name), "{name}: {error}");
    }
    check(&ring(&other_key), &foreign, DATA).unwrap();
    // Both in one file, as one block after another: one pinned key is enough.
    check(&keyring, &[foreign.as_slice(), &armored].concat(), DATA).unwrap();
    let both = Keyring::parse([("a", key.as_slice()), ("b", other_key.as_slice())]).unwrap();
    let Evidence::Openpgp { signers, .. } = check(&both, &[foreign, armored].concat(), DATA).unwrap() else { panic!() };
    assert_eq!(signers.len(), 2);
}

#[test]
fn keys_that_can_be_broken_are_refused() {
    for kind in ["rsa1024", "dsa2048"] {
        let Some(gpg) = Gpg::new("weak@example.org", kind) else { return };
        let key = gpg.public_key("weak@example.org");
        let signature = gpg.run(&["--digest-algo", "SHA512", "--detach-sign"], DATA).unwrap();
        let error = check(&ring(&key), &signature, DATA).unwrap_err().to_string();
        assert!(error.contains("too weak") || error.contains("not trusted"), "{kind}: {error}");
    }
}

#[test]
fn gpg_clear_signs_checksums() {
    let Some(gpg) = Gpg::new("up@example.org", "ed25519") else { return };
    let (folder, key) = (gpg.folder(), gpg.public_key("up@example.org"));
    fs::write(folder.join("a.tar.gz"), DATA).unwrap();
    let sums = run(folder, "sha256sum", &["a.tar.gz"], b"").unwrap();
    let signed = gpg.run(&["--clear-sign"], &sums).unwrap();
    let verify = |document: &[u8]| verify_clear_signed(&ring(&key), document, Judged::AtSigning, Timestamp::now());
    let verified = verify(&signed).unwrap();
    let (_, digest) = Checksums::parse(verified.text.as_bytes()).unwrap().check("a.tar.gz", DATA).unwrap();
    assert!(sums.starts_with(digest.as_bytes()));
    let text = String::from_utf8(signed).unwrap();
    // What stands before or after the signed part is not part of it; a change within breaks it.
    assert!(verify(format!("{digest}  b.tar.gz\n{text}").as_bytes()).is_err());
    let after = verify(format!("{text}\n{digest}  b.tar.gz\n").as_bytes());
    assert!(after.is_err() || !after.unwrap().text.contains("b.tar.gz"));
    assert!(matches!(verify(text.replace("a.tar.gz", "b.tar.gz").as_bytes()), Err(Error::Signature { .. })));
    assert!(matches!(verify(&sums), Err(Error::Malformed { .. })));
}

#[test]
fn an_expired_key_counts_for_what_it_signed_before() {
    let Some(gpg) = Gpg::new("other@example.org", "ed25519") else { return };
    gpg.add_old("old@example.org", "20200101T000000", "seconds=1000000");
    let key = gpg.public_key("old@example.org");
    let signature = gpg.sign_at("old@example.org", "20200102T000000", DATA);
    check(&ring(&key), &signature, DATA).unwrap();
    let now = verify_detached(&ring(&key), &signature, DATA, Judged::Now, Timestamp::now());
    assert!(now.unwrap_err().to_string().contains("expired"));
    let early = verify_detached(&ring(&key), &signature, DATA, Judged::Now, "2020-01-03T00:00:00Z".parse().unwrap());
    early.unwrap();
    let future =
        verify_detached(&ring(&key), &signature, DATA, Judged::AtSigning, "2019-01-03T00:00:00Z".parse().unwrap());
    assert!(future.unwrap_err().to_string().contains("future"));
}

#[test]
fn a_revoked_key_counts_only_if_it_was_put_away_and_only_before() {
    for (reason, before) in [("0", false), ("1", false), ("2", true), ("3", true)] {
        let Some(gpg) = Gpg::new("other@example.org", "ed25519") else { return };
        gpg.add_old("old@example.org", "20200101T000000", "0");
        let sign = |time| gpg.sign_at("old@example.org", time, DATA);
        let (early, late) = (sign("20200102T000000"), sign("20210102T000000"));
        gpg.revoke("old@example.org", "20200601T000000", reason);
        let key = gpg.public_key("old@example.org");
        assert_eq!(check(&ring(&key), &early, DATA).is_ok(), before, "reason {reason}");
        let late = check(&ring(&key), &late, DATA).unwrap_err().to_string();
        assert!(late.contains("revoked") && late.contains("old@example.org"), "reason {reason}: {late}");
    }
}

#[test]
fn minisign_signs_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("a"), DATA).unwrap();
    let Some(_) = run(folder, "minisign", &["-G", "-W", "-p", "key.pub", "-s", "key"], b"") else { return };
    let public = fs::read_to_string(folder.join("key.pub")).unwrap();
    let key = MinisignKey::parse(public.lines().nth(1).unwrap()).unwrap();
    let sign = |more: &[&str]| {
        let base = ["-S", "-s", "key", "-m", "a", "-x", "a.minisig", "-t", "version 1.0"];
        run(folder, "minisign", &[&base[..], more].concat(), b"").unwrap();
        fs::read(folder.join("a.minisig")).unwrap()
    };
    for (flag, expected) in [("-H", true), ("-l", false)] {
        let signature = sign(&[flag]);
        let evidence = key.verify(&signature, DATA).unwrap();
        let Evidence::Minisign { trusted_comment, prehashed, .. } = evidence else { panic!() };
        assert_eq!((trusted_comment.as_str(), prehashed), ("version 1.0", expected));
        assert!(matches!(key.verify(&signature, b"other".as_slice()), Err(Error::Signature { .. })));
        let text = String::from_utf8(signature.clone()).unwrap();
        let comment = text.replace("version 1.0", "version 1.1");
        assert!(matches!(key.verify(comment.as_bytes(), DATA), Err(Error::Signature { .. })), "{comment}");
        for cut in (0..signature.len() - 4).step_by(5) {
            assert!(key.verify(&signature[..cut], DATA).is_err(), "{cut} bytes");
        }
    }
    let signature = sign(&[]);
    run(folder, "minisign", &["-G", "-f", "-W", "-p", "other.pub", "-s", "other"], b"").unwrap();
    let other = fs::read_to_string(folder.join("other.pub")).unwrap();
    let other = MinisignKey::parse(other.lines().nth(1).unwrap()).unwrap();
    assert!(matches!(other.verify(&signature, DATA), Err(Error::Signature { .. })));
    assert!(matches!(key.verify(&vec![b'a'; 1 << 20], DATA), Err(Error::TooLarge { .. })));
    for text in ["", "RWQ", "untrusted comment: x"] {
        assert!(matches!(MinisignKey::parse(text), Err(Error::Key { .. })), "{text}");
    }
}

#[test]
fn signify_signs_a_file_and_a_checksum_list() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("a"), DATA).unwrap();
    let signify = |arguments: &[&str]| run(folder, "signify-openbsd", arguments, b"");
    let Some(_) = signify(&["-G", "-n", "-p", "key.pub", "-s", "key.sec"]) else { return };
    signify(&["-G", "-n", "-p", "other.pub", "-s", "other.sec"]).unwrap();
    let parse = |name: &str| SignifyKey::parse(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    let (key, other) = (parse("key.pub"), parse("other.pub"));
    signify(&["-S", "-s", "key.sec", "-m", "a", "-x", "a.sig"]).unwrap();
    let signature = fs::read(folder.join("a.sig")).unwrap();
    key.verify(&signature, DATA).unwrap();
    assert!(matches!(key.verify(&signature, b"other".as_slice()), Err(Error::Signature { .. })));
    let error = other.verify(&signature, DATA).unwrap_err().to_string();
    assert!(error.contains("made by key"), "{error}");
    for cut in 0..signature.len() - 1 {
        assert!(key.verify(&signature[..cut], DATA).is_err(), "{cut} bytes");
    }

    let sums = run(folder, "sha256sum", &["--tag", "a"], b"").unwrap();
    fs::write(folder.join("SHA256"), &sums).unwrap();
    signify(&["-S", "-e", "-s", "key.sec", "-m", "SHA256", "-x", "SHA256.sig"]).unwrap();
    let signed = fs::read(folder.join("SHA256.sig")).unwrap();
    let (_, message) = key.verify_embedded(&signed).unwrap();
    assert_eq!(message, sums);
    Checksums::parse(message).unwrap().check("a", DATA).unwrap();
    assert!(matches!(other.verify_embedded(&signed), Err(Error::Signature { .. })));
    assert!(matches!(key.verify(&signed, DATA), Err(Error::Malformed { .. })));
    assert!(matches!(key.verify_embedded(&signature), Err(Error::Malformed { .. })));
    let mut damaged = signed.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(key.verify_embedded(&damaged), Err(Error::Signature { .. })));
    for text in ["", "RWQ", "untrusted comment: x\nRWQ="] {
        assert!(matches!(SignifyKey::parse(text), Err(Error::Key { .. })), "{text}");
    }
}

/// A repository with a signed commit and a signed tag `v1.0`; its objects and the commit's id.
fn repository(folder: &Path, format: &str, configuration: &[&str]) -> Option<(Vec<u8>, Vec<u8>, String)> {
    let object_format = format!("--object-format={format}");
    run(folder, "git", &["init", "-q", &object_format, "r"], b"")?;
    let r = folder.join("r");
    let base = ["-c", "user.name=Up", "-c", "user.email=up@example.org"];
    let git = |arguments: &[&str]| run(&r, "git", &[&base[..], configuration, arguments].concat(), b"");
    let r_home = r.join("gnupg");
    if folder.join("gnupg").exists() && !r_home.exists() {
        std::os::unix::fs::symlink(folder.join("gnupg"), r_home).unwrap();
    }
    git(&["commit", "-q", "--allow-empty", "-S", "-m", "first"])?;
    git(&["tag", "-s", "v1.0", "-m", "release 1.0\n\nwith notes"])?;
    let id = String::from_utf8(git(&["rev-parse", "HEAD"])?).unwrap().trim().to_owned();
    Some((git(&["cat-file", "tag", "v1.0"])?, git(&["cat-file", "commit", "HEAD"])?, id))
}

/// What holds of every signed repository.
fn judge_repository(tag: &[u8], commit: &[u8], id: &str, keys: &GitKeys, none: &GitKeys) {
    let now = Timestamp::now();
    let evidence = verify_git(ObjectKind::Tag, tag, id, Some("v1.0"), keys, now).unwrap();
    let Evidence::Git { commit: proved, tag: name, signers, .. } = evidence else { panic!() };
    assert_eq!((proved.as_str(), name.as_str(), signers.len()), (id, "v1.0", 1));
    verify_git(ObjectKind::Commit, commit, id, None, keys, now).unwrap();
    assert_eq!(object_id(ObjectKind::Commit, commit, id.len()).unwrap(), id);

    let other = if id.starts_with('0') { id.replacen('0', "1", 1) } else { format!("0{}", &id[1..]) };
    let target = verify_git(ObjectKind::Tag, tag, &other, Some("v1.0"), keys, now);
    assert!(matches!(target, Err(Error::GitTarget { field: "object", .. })), "{target:?}");
    let name = verify_git(ObjectKind::Tag, tag, id, Some("v1.1"), keys, now);
    assert!(matches!(name, Err(Error::GitTarget { field: "tag", .. })), "{name:?}");
    let changed = String::from_utf8(tag.to_vec()).unwrap().replace("notes", "motes");
    let changed = verify_git(ObjectKind::Tag, changed.as_bytes(), id, Some("v1.0"), keys, now);
    assert!(matches!(changed, Err(Error::Signature { .. })), "{changed:?}");
    let text = String::from_utf8(commit.to_vec()).unwrap();
    let changed = verify_git(ObjectKind::Commit, text.replace("first", "other").as_bytes(), id, None, keys, now);
    assert!(matches!(changed, Err(Error::GitTarget { field: "id", .. })), "{changed:?}");
    let foreign = verify_git(ObjectKind::Tag, tag, id, Some("v1.0"), none, now);
    assert!(matches!(foreign, Err(Error::Signature { .. })), "{foreign:?}");
    let start = tag.windows(10).position(|window| window == b"-----BEGIN").unwrap();
    let unsigned = verify_git(ObjectKind::Tag, &tag[..start], id, Some("v1.0"), keys, now);
    assert!(matches!(unsigned, Err(Error::NotSigned { .. })), "{unsigned:?}");
    let cut = verify_git(ObjectKind::Tag, &tag[..tag.len() - 60], id, Some("v1.0"), keys, now);
    assert!(cut.is_err());
    for junk in [&b""[..], b"object", b"\n", &vec![b'a'; 2 << 20]] {
        assert!(verify_git(ObjectKind::Tag, junk, id, Some("v1.0"), keys, now).is_err());
    }
}

#[test]
fn git_signs_with_openpgp() {
    let Some(gpg) = Gpg::new("up@example.org", "ed25519") else { return };
    let Some((tag, commit, id)) = repository(gpg.folder(), "sha1", &["-c", "user.signingkey=up@example.org"]) else {
        return;
    };
    let key = gpg.public_key("up@example.org");
    let keys = GitKeys { openpgp: Some(ring(&key)), ssh: None };
    judge_repository(&tag, &commit, &id, &keys, &GitKeys::default());
}

#[test]
fn git_signs_with_ssh() {
    for (kind, format) in [("ed25519", "sha1"), ("ecdsa", "sha1"), ("rsa", "sha256")] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let generate = |name: &str| run(folder, "ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", name], b"");
        let Some(_) = generate("key") else { return };
        generate("other").unwrap();
        let signing = format!("user.signingkey={}", folder.join("key").display());
        let configuration = ["-c", "gpg.format=ssh", "-c", &signing];
        let Some((tag, commit, id)) = repository(folder, format, &configuration) else { return };
        let public = |name: &str| fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap();
        let signers = |text: String| GitKeys { openpgp: None, ssh: Some(SshSigners::parse("signers", &text).unwrap()) };
        let (key, other) = (public("key"), signers(public("other")));
        for line in [
            key.clone(),
            format!("up@example.org {key}"),
            format!("# them\n\nup@example.org,*@example.org namespaces=\"git,file\" {key}"),
            format!("up@example.org valid-after=\"20200101\",valid-before=\"20990101\" {key}"),
        ] {
            judge_repository(&tag, &commit, &id, &signers(line), &other);
        }
        let late = signers(format!("up@example.org valid-before=\"20200101Z\" {key}"));
        let error = verify_git(ObjectKind::Tag, &tag, &id, None, &late, Timestamp::now()).unwrap_err();
        assert!(error.to_string().contains("not valid when it signed"), "{error}");
        for text in [
            String::new(),
            format!("up@example.org namespaces=\"file\" {key}"),
            format!("up@example.org cert-authority {key}"),
            "up@example.org ssh-ed25519 AAAA".to_owned(),
        ] {
            assert!(matches!(SshSigners::parse("signers", &text), Err(Error::Key { .. })), "{text}");
        }
    }
}
