//! Services, certificates and `/etc/os-release`, which definitions add to the packages' files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::process::Command;

use image::{Error, Settings};
use recipe::ImageConfiguration;
use support::{Workshop, composed, listing};

fn settings(yaml: &str) -> Settings {
    Settings::from_definition(&ImageConfiguration::parse(yaml, "apko.yaml").unwrap(), Vec::new()).unwrap()
}

#[test]
fn a_service_bundle_is_what_s6_reads() {
    let workshop = Workshop::new();
    let yaml = "entrypoint: {type: service-bundle, services: {web: /usr/bin/web --port 80, worker: /usr/bin/worker}}";
    let configuration = ImageConfiguration::parse(yaml, "apko.yaml").unwrap();
    assert_eq!(configuration.contents.packages[0].as_str(), "s6");
    let out = tempfile::tempdir().unwrap();
    let package = workshop.build(workshop.package("s6").file("bin/s6-svscan", "", 0o755));
    let composed = composed(&[package], &settings(yaml), out.path()).unwrap();
    let files = listing(out.path(), &composed);
    assert_eq!(files["sv/web/run"], "755 0:0 0 #!/bin/execlineb\n/usr/bin/web --port 80\n");
    assert_eq!(files["sv/worker"], "777 0:0 0 directory");
    let configuration = support::json(out.path(), composed.configuration.digest().as_ref());
    assert_eq!(configuration["config"]["Entrypoint"], serde_json::json!(["/bin/s6-svscan", "/sv"]));

    let evil = Settings { services: vec![("../x".to_owned(), "a".to_owned())], ..Settings::default() };
    let package = workshop.build(workshop.package("p").file("x", "", 0o644));
    let error = support::composed(&[package], &evil, out.path()).unwrap_err();
    assert!(error.to_string().contains("entrypoint.services"), "{error}");
}

#[test]
fn os_release_is_written_over_the_packages() {
    let workshop = Workshop::new();
    let package = workshop.build(workshop.package("base").file("etc/os-release", "ID=other\n", 0o644));
    let yaml = "os-release: {id: mine, name: Mine OS, version-id: '3.1', home-url: 'https://mine.example'}";
    let out = tempfile::tempdir().unwrap();
    let composed = composed(std::slice::from_ref(&package), &settings(yaml), out.path()).unwrap();
    let files = listing(out.path(), &composed);
    let text = "ID=mine\nNAME=\"Mine OS\"\nVERSION_ID=3.1\nHOME_URL=\"https://mine.example\"\n";
    assert_eq!(files["etc/os-release"], format!("644 0:0 1700000000 {text}"));
    assert_eq!(files["etc/mine-release"], "644 0:0 0 3.1\n");
    for (id, name) in [("a b", ""), ("a", "a\"$(x)")] {
        let bad = image::OsRelease { id: id.to_owned(), name: name.to_owned(), ..image::OsRelease::default() };
        let bad = Settings { os_release: Some(bad), ..Settings::default() };
        let error = support::composed(std::slice::from_ref(&package), &bad, out.path());
        assert!(error.unwrap_err().to_string().contains("os-release"));
    }
}

/// A certificate made by openssl, or `None` where it is not installed.
fn certificate() -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cert.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=test",
            "-days",
            "1",
            "-keyout",
            "/dev/null",
        ])
        .arg("-out")
        .arg(&path)
        .output();
    match made {
        Ok(output) if output.status.success() => Some(std::fs::read_to_string(path).unwrap()),
        _ => {
            println!("not run: no openssl");
            None
        }
    }
}

#[test]
fn certificates_of_providers_are_added_to_the_bundle_and_listed() {
    let Some(pem) = certificate() else { return };
    let workshop = Workshop::new();
    let (bundle, list) = ("etc/ssl/certs/ca-certificates.crt", "etc/ca-certificates.conf");
    let certificates = workshop.package("ca-certificates").file(bundle, "KNOWN\n", 0o644).file(list, "a.crt\n", 0o600);
    let own = |name: &str| {
        workshop
            .package(name)
            .file(&format!("usr/share/ca-certificates/{name}/own.crt"), &format!("subject: test\n{pem}"), 0o644)
            .file(&format!("usr/share/{name}.pem"), "no certificate", 0o644)
            .file(&format!("usr/share/{name}.txt"), &pem, 0o644)
    };
    let provides = |text: &str| own("theirs").say(|information| information.provides = vec![text.to_owned()]);
    let packages = [
        workshop.build(certificates),
        workshop.build(own("others")),
        workshop.build(provides("custom-ca-certificates")),
    ];
    let settings = Settings { certificate_providers: vec!["custom-ca-certificates".to_owned()], ..Settings::default() };
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&packages, &settings, out.path()).unwrap();
    let files = listing(out.path(), &composed);
    assert_eq!(files[bundle], format!("644 0:0 1750000000 KNOWN\n{pem}\n"));
    assert_eq!(files[list], "600 0:0 1750000000 a.crt\ntheirs/own.crt\n");
    assert!(!files.keys().any(|path| path.starts_with("usr/local/share/ca-certificates")));
}

#[test]
fn certificates_are_added_to_the_packages_bundle() {
    let Some(pem) = certificate() else { return };
    let workshop = Workshop::new();
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    let package = workshop.build(workshop.package("ca-certificates-bundle").file(bundle, "KNOWN\n", 0o644));
    let with = |name: &str, content: &str| Settings {
        certificates: vec![image::Certificate { name: name.to_owned(), content: content.to_owned() }],
        ..Settings::default()
    };
    let out = tempfile::tempdir().unwrap();
    let remarked = format!("subject: test\n{pem}");
    let composed = composed(std::slice::from_ref(&package), &with("own-ca", &remarked), out.path()).unwrap();
    let files = listing(out.path(), &composed);
    assert_eq!(files[bundle], format!("644 0:0 1750000000 KNOWN\n{pem}\n"));
    let own: Vec<_> = files.keys().filter(|path| path.starts_with("usr/local/share/ca-certificates/own-ca-")).collect();
    assert_eq!(own.len(), 1, "{files:#?}");
    assert_eq!(files[own[0]], format!("644 0:0 1750000000 {pem}"));

    let key = pem.replace("CERTIFICATE", "PRIVATE KEY");
    let twice = format!("{pem}{pem}");
    let cut = pem.replace("MI", "MA");
    for (name, content) in [("a/b", &pem), ("a", &key), ("a", &twice), ("a", &cut), ("a", &String::new())] {
        let error = support::composed(std::slice::from_ref(&package), &with(name, content), out.path()).unwrap_err();
        assert!(matches!(error, Error::Setting { setting: "certificates.additional", .. }), "{error}");
    }
}

/// A store as Java's `keytool` makes it gets the certificate, and `keytool` lists both.
#[test]
fn certificates_are_added_to_javas_trust_store() {
    let (Some(known), Some(pem)) = (certificate(), certificate()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, store) = (folder.path().join("known.pem"), folder.path().join("cacerts"));
    std::fs::write(&file, &known).unwrap();
    let (file, store) = (file.to_str().unwrap(), store.to_str().unwrap());
    let password = ["-storepass", "changeit", "-keystore", store];
    let import = ["-importcert", "-noprompt", "-alias", "Known", "-storetype", "JKS", "-file", file];
    let Some(output) = support::tool("keytool", &[import.as_slice(), &password].concat()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let workshop = Workshop::new();
    let path = "etc/ssl/certs/java/cacerts";
    let package = workshop.build(workshop.package("java-cacerts").bytes(path, &std::fs::read(store).unwrap(), 0o444));
    let settings = Settings {
        certificates: vec![image::Certificate { name: "Own".to_owned(), content: pem }],
        ..Settings::default()
    };
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&[package], &settings, out.path()).unwrap();
    assert!(listing(out.path(), &composed)[path].starts_with("444 0:0 1750000000 "));
    std::fs::remove_file(store).unwrap();
    std::fs::write(store, support::content(out.path(), &composed, path).unwrap()).unwrap();
    let output = support::tool("keytool", &[["-list"].as_slice(), &password].concat()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("2 entries"), "{text}");
    assert!(text.contains("known,") && text.contains("own-"), "{text}");
}

#[test]
fn a_key_does_not_take_the_place_of_a_packages() {
    let workshop = Workshop::new();
    let package = workshop.build(workshop.package("keys").file("etc/apk/keys/os.rsa.pub", "KEY", 0o644));
    let out = tempfile::tempdir().unwrap();
    let mine = settings(
        "contents: {runtime_keyring: [{name: os.rsa.pub, content: \"-----BEGIN PUBLIC KEY-----\\nAA\\n-----END PUBLIC KEY-----\"}]}",
    );
    let error = composed(&[package], &mine, out.path()).unwrap_err();
    assert!(error.to_string().contains("contents.keyring"), "{error}");
}

#[test]
fn libraries_are_in_the_loaders_cache() {
    let Ok(bytes) = std::fs::read("/lib/x86_64-linux-gnu/libz.so.1") else {
        println!("not run: no libz of this machine");
        return;
    };
    let workshop = Workshop::new();
    let mut own = workshop.package("libz").file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", 0o644);
    own = own.file("etc/ld.so.conf.d/own.conf", "/opt/lib\n", 0o644).file("usr/lib/libnot.so.1", "text", 0o755);
    own = own.symlink("lib", "usr/lib").symlink("usr/lib/libz.so.1", "libz.so.1.9").symlink("opt/lib", "../usr/lib/z");
    let own = own.bytes("usr/lib/libz.so.1.9", &bytes, 0o755).bytes("usr/lib/z/libz.so.1", &bytes, 0o755);
    let out = tempfile::tempdir().unwrap();
    let package = workshop.build(own);
    let composed = composed(std::slice::from_ref(&package), &Settings::default(), out.path()).unwrap();
    let Some(cache) = support::content(out.path(), &composed, "etc/ld.so.cache") else { panic!("no cache") };
    let file = out.path().join("ld.so.cache");
    std::fs::write(&file, cache).unwrap();
    match Command::new("/sbin/ldconfig").args(["-p", "-C"]).arg(&file).output() {
        Err(_) => println!("not run: no ldconfig"),
        Ok(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("=>")).collect();
            assert_eq!(
                lines,
                ["libz.so.1 (libc6,x86-64) => /lib/libz.so.1", "libz.so.1 (libc6,x86-64) => /opt/lib/libz.so.1"],
                "{text}"
            );
        }
    }
    let without = workshop.build(workshop.package("other").bytes("usr/lib/libz.so.1", &bytes, 0o755));
    let composed = support::composed(&[without], &Settings::default(), out.path()).unwrap();
    assert!(support::content(out.path(), &composed, "etc/ld.so.cache").is_none());
}
