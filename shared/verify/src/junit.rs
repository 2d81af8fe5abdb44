//! Reports as JUnit XML, for continuous integration.

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::report::Tested;
use crate::{Check, Error, Status, SuiteReport};

/// One `testsuite` per image, platform and suite, one `testcase` per check. A check that was not run is an
/// `error` of the type `not-run`, since it blocks as a failed one does; one that is not applicable or
/// waived is `skipped`; what is only warned of stands in `system-out`.
/// Attempts that failed before the last one are `flakyFailure` or `rerunFailure`.
///
/// # Errors
/// [`Error::Written`] when the document can't be written.
pub fn junit(tested: &[Tested<'_>]) -> Result<String, Error> {
    let mut document = quick_junit::Report::new("mill image test");
    for image in tested {
        document.add_test_suites(image.report.suites.iter().map(|suite| self::suite(image, suite)));
    }
    document.to_string().map_err(|error| Error::Written { format: "JUnit XML", message: error.to_string() })
}

fn suite(image: &Tested<'_>, report: &SuiteReport) -> TestSuite {
    let suite_name = report.suite.as_str();
    let mut suite = TestSuite::new(format!("{} {} {suite_name}", image.name, image.report.platform));
    let facts = [("image", image.name), ("digest", &image.report.digest), ("platform", &image.report.platform)];
    for (name, value) in facts {
        suite.add_property(Property::new(name, value));
    }
    if image.report.emulated {
        suite.add_property(Property::new("emulated", "true"));
    }
    let time = report.checks.iter().map(|check| check.duration).sum();
    suite.set_time(time);
    suite.add_test_cases(report.checks.iter().map(|check| {
        let mut case = TestCase::new(&*check.id, status(check));
        case.set_classname(format!("{}.{suite_name}", image.name));
        case.set_time(check.duration);
        if check.status == Status::Warned {
            case.set_system_out(format!("warned: {}", check.message));
        }
        case
    }));
    suite
}

fn status(check: &Check) -> TestCaseStatus {
    let mut status = match check.status {
        Status::Passed | Status::Warned => TestCaseStatus::success(),
        Status::NotApplicable | Status::Waived => TestCaseStatus::skipped(),
        Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::NotRun => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    match check.status {
        Status::Passed | Status::Warned => {}
        Status::NotApplicable | Status::Waived => {
            status.set_message(&*check.message);
        }
        Status::Failed => {
            status.set_type("failed").set_message(&*check.message);
        }
        Status::NotRun => {
            status.set_type("not-run").set_message(format!("not run: {}", check.message));
        }
    }
    if matches!(check.status, Status::Failed | Status::NotRun) && !check.evidence.is_empty() {
        status.set_description(check.evidence.join("\n\n"));
    }
    if matches!(check.status, Status::Passed | Status::Failed) {
        status.add_reruns(check.earlier.iter().map(|message| {
            let mut rerun = TestRerun::new(NonSuccessKind::Failure);
            rerun.set_type("failed").set_message(&**message);
            rerun
        }));
    }
    status
}
