//! Programs that are hardened and find what they need, and such that aren't and don't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "fixture/described.rs"]
mod described;
mod fixture;

use std::path::Path;

use described::{layer, run};
use fixture::check;
use verify::Status;

/// A program of this machine, compiled for the test; none without a compiler.
fn compiled(arguments: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let output = folder.path().join("main");
    let status = std::process::Command::new("gcc").arg(&source).args(arguments).arg("-o").arg(&output).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("not run: no working `gcc`");
        return None;
    }
    Some(std::fs::read(output).unwrap())
}

#[test]
fn libraries_and_interpreters_are_looked_for_in_the_image() {
    let Some(program) = compiled(&["-Wl,-rpath,$ORIGIN/../lib/web:/home/build/lib"]) else { return };
    let report = run(layer().file("usr/bin/program", 0o755, program.clone()), "1");
    let libraries = check(&report, "integrity/libraries");
    assert_eq!(
        (libraries.status, libraries.message.as_str()),
        (
            Status::Failed,
            "`/usr/bin/program` needs the interpreter `/lib64/ld-linux-x86-64.so.2`, which is not in the image; \
             add the package that has it; \
             `/usr/bin/program` needs `libc.so.6`, which is not in the image; add the package that has it"
        )
    );
    assert_eq!(
        check(&report, "integrity/host-paths").message,
        "`/usr/bin/program` looks for libraries in `/home/build/lib`, which only its build had; \
         link it without that path"
    );

    let library = std::fs::read(Path::new("/lib/x86_64-linux-gnu/libc.so.6")).unwrap();
    let loader = std::fs::read("/lib64/ld-linux-x86-64.so.2").unwrap();
    let whole = layer()
        .file("usr/bin/program", 0o755, program)
        .symlink("lib64", "usr/lib64")
        .file("usr/lib64/ld-linux-x86-64.so.2", 0o755, loader)
        .file("usr/lib/web/libc.so.6", 0o755, library);
    let report = run(whole, "1");
    let libraries = check(&report, "integrity/libraries");
    assert_eq!(
        (libraries.status, libraries.message.as_str()),
        (Status::Passed, "all 3 ELF files have all that they need")
    );

    let report = run(layer().file("usr/bin/broken", 0o755, "\x7fELFxxxx"), "1");
    let libraries = check(&report, "integrity/libraries");
    assert!(libraries.message.starts_with("`/usr/bin/broken` can't be read: "), "{}", libraries.message);
    assert_eq!(libraries.status, Status::Failed);
}

/// Status and message of one check of an image with one program.
fn of_program(id: &str, program: Vec<u8>) -> (Status, String) {
    let layer = layer().folder("tmp", 0o1777).file("usr/lib/web/x", 0o644, "").file("usr/bin/program", 0o755, program);
    let report = run(layer, "1");
    let found = check(&report, id);
    (found.status, found.message.clone())
}

#[test]
fn a_hardened_program_passes_and_each_lack_of_hardening_is_told() {
    let Some(hardened) = compiled(&["-Wl,-z,relro,-z,now"]) else { return };
    for id in ["relro", "nx", "pie", "architecture", "search-paths", "host-paths"] {
        let (status, message) = of_program(&format!("integrity/{id}"), hardened.clone());
        assert_eq!(status, Status::Passed, "{id}: {message}");
        assert!(message.starts_with("all 1 ELF files "), "{message}");
    }
    for (arguments, id, expected) in [
        (
            &["-Wl,-z,norelro", "-Wl,-z,now"][..],
            "relro",
            "has no part that is read-only after relocation (`PT_GNU_RELRO`); link it with `-Wl,-z,relro,-z,now`",
        ),
        (
            &["-Wl,-z,relro,-z,lazy"],
            "relro",
            "binds symbols while it runs (no `BIND_NOW`), so that their table stays writable; \
             link it with `-Wl,-z,relro,-z,now`",
        ),
        (
            &["-Wl,-z,execstack"],
            "nx",
            "wants an executable stack; link it with `-Wl,-z,noexecstack`, \
             and see that assembly has a `.note.GNU-stack` section",
        ),
        (&["-no-pie"], "pie", "is loaded at one address (no PIE); compile it with `-fPIE` and link it with `-pie`"),
        (
            &["-Wl,-rpath,lib"],
            "search-paths",
            "looks for libraries in `lib`, which depends on the working folder; \
             remove it with `patchelf --remove-rpath`, or link without `-rpath`",
        ),
        (
            &["-Wl,-rpath,/usr/lib/web:/usr/lib/absent"],
            "search-paths",
            "looks for libraries in `/usr/lib/absent`, which is not in the image; \
             remove it with `patchelf --remove-rpath`, or link without `-rpath`",
        ),
        (
            &["-Wl,-rpath,$ORIGIN/../lib/web:$ORIGIN/../../../lib"],
            "search-paths",
            "looks for libraries in `$ORIGIN/../../../lib`, which leads out of the image; \
             remove it with `patchelf --remove-rpath`, or link without `-rpath`",
        ),
        (
            &["-Wl,-rpath,/tmp"],
            "search-paths",
            "looks for libraries in `/tmp`, which not only root can write to; \
             remove it with `patchelf --remove-rpath`, or link without `-rpath`",
        ),
    ] {
        let Some(program) = compiled(arguments) else { return };
        let (status, message) = of_program(&format!("integrity/{id}"), program);
        assert_eq!((status, message), (Status::Failed, format!("`/usr/bin/program` {expected}")), "{arguments:?}");
    }

    // The segment of the code, made writable in its program header.
    let mut writable = hardened.clone();
    let segments = (0..writable[56]).map(|number| 64 + 56 * usize::from(number));
    let code = segments.into_iter().find(|&at| writable[at] == 1 && writable[at + 4] & 1 != 0).unwrap();
    writable[code + 4] |= 2;
    assert_eq!(
        of_program("integrity/nx", writable).1,
        "`/usr/bin/program` has a segment that can be written to and executed; link it without `-N`"
    );

    let mut foreign = hardened.clone();
    foreign[18..20].copy_from_slice(&183_u16.to_le_bytes());
    assert_eq!(
        of_program("integrity/architecture", foreign).1,
        "`/usr/bin/program` is for aarch64 (64 bits), the image for amd64; \
         build its package for the image's architecture"
    );
}

#[test]
fn a_program_without_sections_is_read_all_the_same() {
    let Some(mut program) = compiled(&["-Wl,-z,relro,-z,now"]) else { return };
    // As `sstrip` leaves it: no section table, `e_shoff`, `e_shnum` and `e_shstrndx` zero.
    program[40..48].fill(0);
    program[60..64].fill(0);
    let (status, message) = of_program("integrity/libraries", program.clone());
    assert_eq!(status, Status::Failed);
    assert!(message.contains("needs `libc.so.6`, which is not in the image"), "{message}");
    assert_eq!(of_program("integrity/relro", program).0, Status::Passed);
}
