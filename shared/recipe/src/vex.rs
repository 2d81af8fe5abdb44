//! Minimill's own `vex/NAME.yaml`: what people have found out about vulnerabilities of packages and images.

use std::collections::BTreeMap;

use apk::{DependencyParts, Operator, is_version};
use jiff::Timestamp;

use crate::decode::Fields;
use crate::error::{Error, nearest};
use crate::text::{Location, Text};
use crate::yaml::{self, Node};

const KEYS: [&str; 4] = ["package", "image", "author", "statements"];
const STATEMENT_KEYS: [&str; 11] = [
    "vulnerability",
    "aliases",
    "status",
    "justification",
    "impact",
    "action",
    "notes",
    "timestamp",
    "versions",
    "packages",
    "images",
];
/// Bytes of a free text.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// Bytes of the id of a vulnerability.
const MAX_ID_BYTES: usize = 128;

/// Statements about the vulnerabilities of one package definition, or of one image: a `vex/NAME.yaml` of the
/// catalog. The file's name is free.
///
/// ```yaml
/// package: musl                    # a definition: all that is built from it; or `image: NAME`
/// author: security@example.org     # who answers for the statements
/// statements:
///   - vulnerability: CVE-2025-26519
///     aliases: [GHSA-aaaa-bbbb-cccc]
///     status: not_affected         # or affected, fixed, under_investigation
///     justification: vulnerable_code_not_present   # OpenVEX's; for not_affected, it or `impact`
///     impact: iconv is built without EUC-KR
///     timestamp: 2025-03-01T00:00:00Z              # when this was known; the newest statement counts
///     versions: ">=1.2.5-r0 <1.2.6"                # of the package, in apk's order; all when absent
///     packages: [musl]             # only these packages; of an image: those that it is about
///     images: [valkey]             # only in these images
///   - vulnerability: CVE-2026-1
///     status: affected
///     action: do not run scripts of others         # what users should do; needed
///     notes: upstream works on it                  # how the status was found out
///     timestamp: 2026-01-01T00:00:00Z
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VexFile {
    /// The name of the file, for messages.
    pub file: String,
    /// What the statements are about.
    pub product: VexProduct,
    /// Who answers for them.
    pub author: Text,
    /// The statements, in file order; at least one.
    pub statements: Vec<VexStatement>,
}

/// What the statements of a file are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VexProduct {
    /// The packages of a definition.
    Package(Text),
    /// An image.
    Image(Text),
}

/// What is known of one vulnerability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VexStatement {
    /// Its id, such as `CVE-2025-26519`.
    pub vulnerability: Text,
    /// Its other ids.
    pub aliases: Vec<Text>,
    /// Whether the product is affected.
    pub status: VexStatus,
    /// How the status was found out.
    pub notes: Option<Text>,
    /// When this was known.
    pub timestamp: Timestamp,
    /// Versions of the package that it holds for, all of these together; empty for every version.
    pub versions: Vec<VersionBound>,
    /// Names of the packages that it is about. None: all of the definition's, or the image as a whole.
    pub packages: Vec<Text>,
    /// Images that it holds for; none for every image.
    pub images: Vec<Text>,
}

/// The status of a vulnerability in a product, with what OpenVEX asks of each ("Status Labels").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VexStatus {
    /// No remediation is needed.
    NotAffected(WhyNotAffected),
    /// Something should be done.
    Affected {
        /// What.
        action: Text,
    },
    /// These versions contain a fix.
    Fixed,
    /// It is not known yet.
    UnderInvestigation,
}

/// Why a product is not affected: a justification, a text, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyNotAffected {
    /// One of OpenVEX's.
    pub justification: Option<Justification>,
    /// In words.
    pub impact: Option<Text>,
}

/// OpenVEX's reasons why a product is not affected ("Status Justifications").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Justification {
    /// The vulnerable component is not in the product.
    ComponentNotPresent,
    /// It is, without the vulnerable code.
    VulnerableCodeNotPresent,
    /// The vulnerable code can't run.
    VulnerableCodeNotInExecutePath,
    /// Nobody who attacks can reach it.
    VulnerableCodeCannotBeControlledByAdversary,
    /// Protections in the product stop it.
    InlineMitigationsAlreadyExist,
}

impl Justification {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ComponentNotPresent,
        Self::VulnerableCodeNotPresent,
        Self::VulnerableCodeNotInExecutePath,
        Self::VulnerableCodeCannotBeControlledByAdversary,
        Self::InlineMitigationsAlreadyExist,
    ];

    /// OpenVEX's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ComponentNotPresent => "component_not_present",
            Self::VulnerableCodeNotPresent => "vulnerable_code_not_present",
            Self::VulnerableCodeNotInExecutePath => "vulnerable_code_not_in_execute_path",
            Self::VulnerableCodeCannotBeControlledByAdversary => "vulnerable_code_cannot_be_controlled_by_adversary",
            Self::InlineMitigationsAlreadyExist => "inline_mitigations_already_exist",
        }
    }
}

/// The relation of a version to another, such as `>=1.2.5-r0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionBound {
    /// The relation.
    pub operator: Operator,
    /// The other version.
    pub version: String,
}

impl VexStatement {
    /// Whether the statement holds for a version of the package.
    #[must_use]
    pub fn covers(&self, version: &str) -> bool {
        self.versions.iter().all(|bound| bound.operator.accepts(version, &bound.version))
    }
}

impl VexFile {
    /// Reads a file. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key, status or justification (with the nearest known one), a missing
    /// key, a value that can't be or a key that the status does not have, each with its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let node = yaml::parse(text, file)?;
        let fields = Fields::open(&node, file, "", &KEYS)?;
        let product = match (named(&fields, "package")?, named(&fields, "image")?) {
            (Some(package), None) => VexProduct::Package(package),
            (None, Some(image)) => VexProduct::Image(image),
            (Some(_), Some(image)) => {
                return Err(fields.invalid("image", &image, "`package` is named too; make a file for each"));
            }
            (None, None) => return Err(fields.missing("package")),
        };
        let author = fields.required_text("author")?;
        let of_image = matches!(product, VexProduct::Image(_));
        let statements = fields.list("statements", |node, path| statement(node, file, path, of_image))?;
        if statements.is_empty() {
            return Err(fields.missing("statements"));
        }
        refuse_two_of_one_time(&statements, file)?;
        Ok(Self { file: file.to_owned(), product, author, statements })
    }
}

/// The newest statement of several about one vulnerability counts, so two of one time would leave it open.
fn refuse_two_of_one_time(statements: &[VexStatement], file: &str) -> Result<(), Error> {
    let mut seen: BTreeMap<(&str, Timestamp), &VexStatement> = BTreeMap::new();
    for statement in statements {
        for id in std::iter::once(&statement.vulnerability).chain(&statement.aliases) {
            let held = seen.insert((id.as_str(), statement.timestamp), statement);
            let Some(held) = held.filter(|held| !std::ptr::eq(*held, statement) && may_meet(held, statement)) else {
                continue;
            };
            let reason = format!(
                "line {} states something of it at the same `timestamp`; the newer one counts, so let them differ, or \
                 tell them apart by `versions`, `packages` or `images`",
                held.vulnerability.position.line
            );
            return Err(Error::Invalid {
                location: Location::new(file, id.position),
                field: "statements.vulnerability".to_owned(),
                value: id.value.clone(),
                reason,
            });
        }
    }
    Ok(())
}

/// Whether two statements may be about the same thing.
fn may_meet(left: &VexStatement, right: &VexStatement) -> bool {
    let share = |left: &[Text], right: &[Text]| {
        left.is_empty() || right.is_empty() || left.iter().any(|one| right.iter().any(|other| one.value == other.value))
    };
    let open = left.versions.is_empty() || right.versions.is_empty() || left.versions == right.versions;
    open && share(&left.packages, &right.packages) && share(&left.images, &right.images)
}

fn statement(node: &Node, file: &str, path: &str, of_image: bool) -> Result<VexStatement, Error> {
    let fields = Fields::open(node, file, path, &STATEMENT_KEYS)?;
    let vulnerability = fields.required_text("vulnerability")?;
    let aliases = fields.text_or_texts("aliases")?;
    for id in std::iter::once(&vulnerability).chain(&aliases) {
        let fits =
            |character: char| character.is_ascii_graphic() && !matches!(character, '"' | '\'' | '<' | '>' | '\\');
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.chars().all(fits) {
            let field = if std::ptr::eq(id, &vulnerability) { "vulnerability" } else { "aliases" };
            return Err(fields.invalid(field, id, "an id such as `CVE-2025-26519` is expected"));
        }
    }
    let images = fields.text_or_texts("images")?;
    let versions = versions(&fields)?;
    if of_image {
        let misplaced = [("images", images.first().cloned()), ("versions", fields.text("versions")?)];
        for (field, value) in misplaced {
            if let Some(value) = value {
                return Err(fields.invalid(field, &value, "only a statement about a `package` has this key"));
            }
        }
    }
    Ok(VexStatement {
        status: status(&fields)?,
        notes: free_text(&fields, "notes")?,
        timestamp: timestamp(&fields)?,
        packages: fields.text_or_texts("packages")?,
        vulnerability,
        aliases,
        versions,
        images,
    })
}

fn named(fields: &Fields<'_>, key: &str) -> Result<Option<Text>, Error> {
    Ok(fields.text(key)?.filter(|name| !name.is_empty()))
}

fn free_text(fields: &Fields<'_>, key: &str) -> Result<Option<Text>, Error> {
    let Some(value) = named(fields, key)? else { return Ok(None) };
    if value.len() > MAX_TEXT_BYTES {
        return Err(fields.invalid(key, &Text::default(), format!("it has more than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(Some(value))
}

fn status(fields: &Fields<'_>) -> Result<VexStatus, Error> {
    const NAMES: [&str; 4] = ["not_affected", "affected", "fixed", "under_investigation"];
    let name = fields.required_text("status")?;
    if !NAMES.contains(&name.as_str()) {
        return Err(fields.invalid("status", &name, expected(&name, &NAMES)));
    }
    let (impact, action) = (free_text(fields, "impact")?, free_text(fields, "action")?);
    let justification = fields.text("justification")?;
    let refuse = |field: &str, value: Option<&Text>, only: &str| match value {
        Some(value) => Err(fields.invalid(field, value, format!("only the status `{only}` has this key"))),
        None => Ok(()),
    };
    if name.as_str() != "affected" {
        refuse("action", action.as_ref(), "affected")?;
    }
    if name.as_str() != "not_affected" {
        refuse("justification", justification.as_ref(), "not_affected")?;
        refuse("impact", impact.as_ref(), "not_affected")?;
    }
    Ok(match name.as_str() {
        "not_affected" => {
            let justification = justification.map(|label| one_justification(fields, &label)).transpose()?;
            if justification.is_none() && impact.is_none() {
                return Err(fields.missing("justification"));
            }
            VexStatus::NotAffected(WhyNotAffected { justification, impact })
        }
        "affected" => VexStatus::Affected { action: action.ok_or_else(|| fields.missing("action"))? },
        "fixed" => VexStatus::Fixed,
        _ => VexStatus::UnderInvestigation,
    })
}

fn one_justification(fields: &Fields<'_>, label: &Text) -> Result<Justification, Error> {
    let labels = Justification::ALL.map(Justification::label);
    let found = Justification::ALL.into_iter().find(|known| known.label() == label.value);
    found.ok_or_else(|| fields.invalid("justification", label, expected(label, &labels)))
}

/// What would do instead of an unknown name, with the nearest of them first.
fn expected(name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known.iter().copied()).into_iter().next();
    let hint = hint.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    format!("{hint}expected one of {}", known.join(", "))
}

fn timestamp(fields: &Fields<'_>) -> Result<Timestamp, Error> {
    let value = fields.required_text("timestamp")?;
    let expected = "a time such as `2025-03-01T00:00:00Z` is expected";
    let time: Timestamp = value.parse().map_err(|_| fields.invalid("timestamp", &value, expected))?;
    // OpenVEX's times have whole seconds here, so that the same file gives the same bytes everywhere.
    Timestamp::from_second(time.as_second()).map_err(|_| fields.invalid("timestamp", &value, expected))
}

/// Bounds parted by white space or commas.
fn versions(fields: &Fields<'_>) -> Result<Vec<VersionBound>, Error> {
    let Some(value) = named(fields, "versions")? else { return Ok(Vec::new()) };
    let bounds = value.split([' ', ',', '\t', '\n']).filter(|bound| !bound.is_empty());
    let bounds = bounds.map(|bound| {
        version_bound(bound).ok_or_else(|| {
            let reason = format!("`{bound}` is no bound of apk versions; write it as `>=1.2.5-r0 <1.2.6`");
            fields.invalid("versions", &value, reason)
        })
    });
    bounds.collect()
}

/// A bound, read as the constraint of a dependency.
fn version_bound(bound: &str) -> Option<VersionBound> {
    let dependency = format!("version{bound}");
    let parts = DependencyParts::parse(&dependency).ok()?;
    let (operator, version) = parts.constraint?;
    let fits = parts.name == "version" && parts.tag.is_none() && operator != Operator::Checksum && is_version(version);
    fits.then(|| VersionBound { operator, version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "package: musl\nauthor: a@example.org\nstatements:\n";

    fn parse(statements: &str) -> Result<VexFile, Error> {
        VexFile::parse(&format!("{HEAD}{statements}"), "vex/musl.yaml")
    }

    #[test]
    fn every_status_is_read() {
        let file = parse(
            "  - {vulnerability: CVE-1, aliases: [GHSA-1, OSV-1], status: not_affected,\n     justification: \
             vulnerable_code_not_present, impact: built without it, timestamp: '2025-03-01T02:00:00+02:00',\n     \
             versions: '>=1.2.5-r0, <1.2.6', packages: [musl], images: [valkey, nginx], notes: read the source}\n  - \
             {vulnerability: CVE-2, status: affected, action: wait, timestamp: '2025-03-01T00:00:00.5Z'}\n  - \
             {vulnerability: CVE-3, status: fixed, timestamp: '2025-03-01T00:00:00Z', versions: '>=1.2.5-r8'}\n  - \
             {vulnerability: CVE-4, status: under_investigation, timestamp: '2025-03-01T00:00:00Z'}\n",
        )
        .unwrap();
        assert_eq!(file.author.value, "a@example.org");
        assert!(matches!(&file.product, VexProduct::Package(name) if name.value == "musl"));
        let [first, second, third, fourth] = file.statements.as_slice() else { panic!("{file:?}") };
        let VexStatus::NotAffected(why) = &first.status else { panic!("{first:?}") };
        assert_eq!(why.justification.unwrap().label(), "vulnerable_code_not_present");
        assert_eq!(why.impact.as_ref().unwrap().value, "built without it");
        assert_eq!(first.timestamp.to_string(), "2025-03-01T00:00:00Z");
        assert_eq!(first.images.len(), 2);
        for (version, covered) in
            [("1.2.5-r0", true), ("1.2.5-r10", true), ("1.2.6-r0", false), ("1.2.4-r9", false), ("1.2.6_rc1-r0", true)]
        {
            assert_eq!(first.covers(version), covered, "{version}");
        }
        assert!(matches!(&second.status, VexStatus::Affected { action } if action.value == "wait"));
        assert_eq!(second.timestamp.to_string(), "2025-03-01T00:00:00Z");
        assert!(second.covers("0"));
        assert!(third.status == VexStatus::Fixed && third.covers("1.2.5-r8") && !third.covers("1.2.5-r7"));
        assert_eq!(fourth.status, VexStatus::UnderInvestigation);
        let image = "image: nginx\nauthor: a\nstatements:\n  - {vulnerability: CVE-1, status: fixed, timestamp: \
                     2025-03-01T00:00:00Z, packages: [zlib]}\n";
        let image = VexFile::parse(image, "vex/i.yaml").unwrap();
        assert!(matches!(image.product, VexProduct::Image(_)));
        assert_eq!(image.statements[0].packages[0].value, "zlib");
    }

    #[test]
    fn the_newer_of_two_statements_counts_and_two_of_one_time_are_refused() {
        let one = "  - {vulnerability: CVE-1, status: under_investigation, timestamp: 2025-03-01T00:00:00Z}\n";
        let later = "  - {vulnerability: CVE-1, status: fixed, timestamp: 2025-03-02T00:00:00Z}\n";
        assert_eq!(parse(&format!("{one}{later}")).unwrap().statements.len(), 2);
        let by_alias = "  - {vulnerability: GHSA-1, aliases: CVE-1, status: fixed, timestamp: 2025-03-01T00:00:00Z}\n";
        let error = parse(&format!("{one}{by_alias}")).unwrap_err().to_string();
        assert!(error.contains("vex/musl.yaml:5:38: `statements.vulnerability` is `CVE-1`: line 4 states"), "{error}");
        let apart = "  - {vulnerability: CVE-1, status: fixed, timestamp: 2025-03-01T00:00:00Z, versions: '>2'}\n  - \
                     {vulnerability: CVE-1, status: affected, action: a, timestamp: 2025-03-01T00:00:00Z, versions: \
                     '<=2'}\n";
        assert_eq!(parse(apart).unwrap().statements.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let time = "timestamp: 2025-03-01T00:00:00Z";
        let cases = [
            (format!("  - {{status: fixed, {time}}}\n"), "vex/musl.yaml:4:5: `statements[0]` needs `vulnerability`"),
            (
                format!("  - {{vulnerabilty: CVE-1, status: fixed, {time}}}\n"),
                "vex/musl.yaml:4:6: unknown key `vulnerabilty` in `statements[0]`; did you mean `vulnerability`?",
            ),
            (format!("  - {{vulnerability: CVE-1, {time}}}\n"), "needs `status`"),
            (
                format!("  - {{vulnerability: CVE-1, status: not_afected, {time}}}\n"),
                "vex/musl.yaml:4:36: `statements[0].status` is `not_afected`: did you mean `not_affected`? expected one",
            ),
            (format!("  - {{vulnerability: CVE-1, status: not_affected, {time}}}\n"), "needs `justification`"),
            (
                format!(
                    "  - {{vulnerability: CVE-1, status: not_affected, justification: code_not_present, {time}}}\n"
                ),
                "`statements[0].justification` is `code_not_present`: ",
            ),
            (format!("  - {{vulnerability: CVE-1, status: affected, {time}}}\n"), "needs `action`"),
            (
                format!("  - {{vulnerability: CVE-1, status: fixed, action: wait, {time}}}\n"),
                "`statements[0].action` is `wait`: only the status `affected` has this key",
            ),
            (
                format!("  - {{vulnerability: CVE-1, status: fixed, impact: none, {time}}}\n"),
                "only the status `not_affected` has this key",
            ),
            ("  - {vulnerability: CVE-1, status: fixed}\n".to_owned(), "needs `timestamp`"),
            (
                "  - {vulnerability: CVE-1, status: fixed, timestamp: 2025-03-01}\n".to_owned(),
                "`2025-03-01`: a time such as",
            ),
            (
                format!("  - {{vulnerability: CVE-1, status: fixed, {time}, versions: '>=1.2.x'}}\n"),
                "`>=1.2.x` is no bound of apk versions",
            ),
            (
                format!("  - {{vulnerability: CVE-1, status: fixed, {time}, versions: 1.2}}\n"),
                "`1.2` is no bound of apk versions",
            ),
            (format!("  - {{vulnerability: CVE 1, status: fixed, {time}}}\n"), "an id such as"),
            (String::new(), "needs `statements`"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("author: a\nstatements: []\n", "the definition needs `package`"),
            ("package: a\nimage: b\nauthor: a\n", "`image` is `b`: `package` is named too"),
            ("package: a\nstatements: []\n", "needs `author`"),
            (
                "image: a\nauthor: b\nstatements:\n  - {vulnerability: C, status: fixed, timestamp: \
                 2025-03-01T00:00:00Z, images: [b]}\n",
                "only a statement about a `package` has this key",
            ),
        ] {
            let error = VexFile::parse(text, "vex/a.yaml").unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
