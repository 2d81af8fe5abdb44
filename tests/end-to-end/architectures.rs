//! Packages and images for both architectures, the other one through emulation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use serde_json::Value;
use tests::factory::{Answer, Factory, answer, rows, text};
use tests::layout;

const MILL: &str = env!("CARGO_BIN_EXE_mill");
const BOTH: &str = "x86_64,aarch64";

fn cycle(factory: &Factory, architectures: &str) -> Answer {
    let mut command = factory.command();
    command.args(["--format", "json", "cycle"]).env("MINIMILL_ARCHITECTURES", architectures);
    answer(command)
}

/// Whether both architectures can be built here; says so where not.
fn emulated() -> bool {
    for architecture in ["x86_64", "aarch64"] {
        if let Err(reason) = sandbox::machine_for(architecture) {
            println!("not run: {architecture} programs do not run here: {reason}");
            return false;
        }
    }
    if !std::path::Path::new("/usr/bin/aarch64-linux-gnu-gcc").exists() {
        println!("not run: no /usr/bin/aarch64-linux-gnu-gcc");
        return false;
    }
    true
}

/// A factory with an image for both architectures of `program`, which is compiled for each.
fn factory() -> Factory {
    let factory = Factory::new(MILL);
    factory.write("packages/program/program.c", "int main(int count, char **arguments) { return 0; }\n");
    program(&factory, "1.0.0", "");
    factory.add_image("program", "program", &[("1", "~1")]);
    factory.edit("images/program/image.yaml", "architectures: [x86_64]", "architectures: [x86_64, aarch64]");
    factory.edit("images/program/image.yaml", "structure:\n    not-applicable: data", "structure: required");
    factory.write(
        "images/program/tests/structure.yaml",
        "schemaVersion: 2.0.0\ncommandTests:\n  - name: it runs\n    command: /usr/bin/program\n    exitCode: 0\n",
    );
    factory
}

fn program(factory: &Factory, version: &str, before: &str) {
    let build = "${{build.arch}}-linux-gnu-gcc -static-pie -Wl,-z,relro,-z,now -o program program.c\n\
                 install -D -m 0755 program ${{targets.destdir}}/usr/bin/program";
    factory.add_package("program", version, &["build-base"], &format!("{before}{build}"));
}

/// The machine in the ELF header of `/usr/bin/program` in a platform's image (ELF specification,
/// `e_machine`).
fn machine(factory: &Factory, platform: &str) -> u16 {
    let program = layout::file(&factory.layout("program"), platform, "usr/bin/program");
    u16::from_le_bytes([program[18], program[19]])
}

#[test]
fn one_index_has_both_architectures_each_tested() {
    if !emulated() {
        return;
    }
    let factory = factory();
    let first = cycle(&factory, BOTH);
    first.expect_code(0);
    let image = first.image("program", "1").clone();
    let platform = |name: &str| text(&image["platforms"][name]).to_owned();
    assert_eq!((machine(&factory, &platform("x86_64")), machine(&factory, &platform("aarch64"))), (62, 183));
    let layout = factory.layout("program");
    let index = layout::document(&layout, text(&image["digest"]));
    let platforms: Vec<&str> =
        rows(&index["manifests"]).iter().map(|manifest| text(&manifest["platform"]["architecture"])).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    for (architecture, emulated) in [("x86_64", Value::Null), ("aarch64", true.into())] {
        let report = factory.report(text(&image["report"]), architecture);
        assert_eq!(report["emulated"], emulated, "{report:#}");
        assert!(report.to_string().contains("it runs"), "{report:#}");
    }
    factory.run(&["verify", "program:1"]).expect_code(0);
    assert!(factory.home().join("apk/aarch64/program-1.0.0-r0.apk").is_file());

    // On a machine that builds one of them only, the image stays as it is.
    program(&factory, "1.1.0", "");
    let one = cycle(&factory, "x86_64");
    one.expect_code(1);
    let held = one.failure("image-plan", "program:1");
    assert!(held.contains("aarch64 is not built: it is not among the `architectures`"), "{held}");
    assert_eq!(one.image("program", "1")["digest"], image["digest"]);
}

#[test]
fn one_failing_architecture_publishes_neither() {
    if !emulated() {
        return;
    }
    let factory = factory();
    let first = cycle(&factory, BOTH);
    first.expect_code(0);
    let before = factory.contents().tags;
    program(&factory, "1.1.0", "test ${{build.arch}} = x86_64\n");
    let failed = cycle(&factory, BOTH);
    failed.expect_code(1);
    failed.failure("package-build", "program 1.1.0-r0");
    let passed_over = failed.texts("skipped", "image-plan", "program:1");
    let reason = "(program 1.1.0-r0 is passed over, because aarch64 lacks it)";
    assert!(passed_over.iter().any(|text| text.ends_with(reason)), "{passed_over:?}");
    assert_eq!(factory.contents().tags, before);

    // Nor does one whose tests fail on one of them.
    program(&factory, "1.2.0", "test ${{build.arch}} = x86_64 || echo 'int main(void) { return 7; }' > program.c\n");
    let failed = cycle(&factory, BOTH);
    failed.expect_code(1);
    let failure = failed.failure("image-test", "program:1");
    assert!(failure.contains("aarch64") && !failure.contains("x86_64"), "{failure}");
    assert_eq!(factory.contents().tags, before);
}

#[test]
fn what_is_asked_for_and_can_not_be_built_is_an_error() {
    let factory = Factory::new(MILL);
    let unknown = cycle(&factory, "riscv64");
    unknown.expect_code(2);
    assert!(unknown.stderr.contains("MINIMILL_ARCHITECTURES: unknown architecture `riscv64`"), "{}", unknown.stderr);
    factory.edit(
        "bootstrap/bootstrap.yaml",
        "commands: [gcc, make, ld, strip]",
        "commands: [gcc]\n    targets:\n      aarch64: {debian: [no-such-tools], commands: [no-such-compiler]}",
    );
    let missing = cycle(&factory, BOTH);
    missing.expect_code(3);
    assert!(missing.stderr.contains("aarch64 can't be built here: "), "{}", missing.stderr);
    let alone = cycle(&factory, "");
    alone.expect_code(3);
    assert!(alone.stderr.contains("no architecture"), "{}", alone.stderr);
}
