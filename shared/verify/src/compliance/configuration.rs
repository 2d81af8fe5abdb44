//! What an image's configuration must not say, and what its age and its name promise.

use jiff::Timestamp;

use crate::Image;
use crate::database::Database;
use crate::files::Kind;
use crate::report::{Complaint, Finding};

const DAY: i64 = 24 * 60 * 60;

/// The image's user (CIS Docker 4.1).
pub(super) fn root_user(image: &Image) -> Finding {
    let user = image.configuration().config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
    match user.split(':').next().unwrap_or_default() {
        "" | "root" => Finding::failed("the image runs as root; set `accounts.run-as`", Vec::new()),
        id if id.parse::<u64>() == Ok(0) => {
            Finding::failed("the image runs as user 0; set `accounts.run-as`", Vec::new())
        }
        _ => Finding::passed(format!("the image runs as user `{user}`")),
    }
}

/// Ports that only root may open (CIS Docker 5.8).
pub(super) fn ports(image: &Image) -> Finding {
    let config = image.configuration().config().clone().unwrap_or_default();
    let numbers =
        config.exposed_ports().iter().flatten().filter_map(|port| port.split('/').next()?.parse::<u16>().ok());
    let complaints = numbers.filter(|port| *port < 1024).map(|port| {
        Complaint::from(format!("port {port} is for root alone; let the server listen to one from 1024 on"))
    });
    Finding::listing(complaints.collect::<Vec<_>>(), "no port that only root may open")
}

/// Steps that no image should be made by (CIS Docker 4.9).
pub(super) fn history(image: &Image) -> Finding {
    let commands = image.configuration().history().iter().flatten().filter_map(|entry| entry.created_by().as_ref());
    let complaints = commands.filter(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        words.windows(2).any(|pair| matches!(pair, ["ADD", source] if source.contains("://")))
    });
    let complaints = complaints.map(|command| {
        let command: String = command.chars().take(100).collect();
        Complaint::from(format!("the step `{command}` adds what nobody has checked; bring it by a package"))
    });
    Finding::listing(complaints.collect::<Vec<_>>(), "no step adds what it fetches")
}

/// `HEALTHCHECK` (CIS Docker 4.6).
pub(super) fn health() -> Finding {
    Finding::not_applicable("OCI images have no health check; what runs them asks the service")
}

/// How old the image and its packages are.
pub(super) fn age(image: &Image, database: Option<&Database>, days: Option<u32>, now: Timestamp) -> Finding {
    let Some(days) = days else {
        return Finding::not_applicable("the policy states no `maximum-age-days`");
    };
    let oldest = now.as_second().saturating_sub(i64::from(days).saturating_mul(DAY));
    let age = |second: i64| now.as_second().saturating_sub(second) / DAY;
    let mut complaints = Vec::new();
    match image.configuration().created().as_deref().and_then(|time| time.parse::<Timestamp>().ok()) {
        None => complaints.push(Complaint::from("the image does not say when it was made; state `created`".to_owned())),
        Some(time) if time.as_second() < oldest => complaints.push(Complaint::from(format!(
            "the image is of {} days ago, the policy lets {days} pass; build it again",
            age(time.as_second())
        ))),
        Some(_) => {}
    }
    for package in database.iter().flat_map(|database| &database.packages) {
        let information = &package.entry.information;
        if information.build_date > 0 && information.build_date < oldest {
            let message = format!(
                "the package `{}` is of {} days ago, the policy lets {days} pass; build it again",
                information.name,
                age(information.build_date)
            );
            complaints.push(Complaint::of_package(&information.name, message));
        }
    }
    Finding::listing(complaints, format!("the image and its packages are of the last {days} days"))
}

/// Whether an image that calls itself FIPS has a module for it that is turned on: OpenSSL's
/// provider with its configuration, or Go's own by `GODEBUG`.
pub(super) fn fips(image: &Image, name: &str) -> Finding {
    if !name.split(['-', '_', '.']).any(|part| part == "fips") {
        return Finding::not_applicable("the image does not call itself FIPS");
    }
    let config = image.configuration().config().clone().unwrap_or_default();
    let go = config.env().iter().flatten().any(|line| {
        let settings = line.strip_prefix("GODEBUG=").unwrap_or_default();
        settings.split(',').any(|setting| matches!(setting, "fips140=on" | "fips140=only"))
    });
    if go {
        return Finding::passed("Go's FIPS 140 module is turned on by `GODEBUG`");
    }
    let files: Vec<&str> = image
        .files()
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, Kind::Regular(_) | Kind::Symlink(_)))
        .map(|(path, _)| path)
        .collect();
    let ends = |end: &str| files.iter().any(|path| path.ends_with(end));
    let lacks = [
        ("ossl-modules/fips.so", "OpenSSL's FIPS provider (`ossl-modules/fips.so`)"),
        ("/fipsmodule.cnf", "the provider's configuration (`fipsmodule.cnf`, made by `openssl fipsinstall`)"),
    ];
    let complaints = lacks.iter().filter(|(end, _)| !ends(end)).map(|(_, what)| {
        Complaint::from(format!("the image calls itself FIPS and lacks {what}; add its package, or rename the image"))
    });
    Finding::listing(complaints.collect::<Vec<_>>(), "OpenSSL's FIPS provider is there, with its configuration")
}
