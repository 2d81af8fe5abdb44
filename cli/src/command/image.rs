use std::collections::BTreeMap;
use std::path::Path;

use apk::{Architecture, Dependency};
use image::{Composition, Settings};
use recipe::{ImageConfiguration, ImageDefinition};
use serde_json::json;
use stage::{Context, Decision, ImagePlan, chain, files, image_plans, proposed, releases, resolve, tag_history};

use crate::arguments::{Global, Image};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail, table};

use super::cycle::size;

pub async fn run(global: &Global, command: Image) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let context = &factory.context;
    match command {
        Image::Plan => plan(global, context).await,
        Image::List => list(global, context).await,
        Image::Prune { dry_run } => prune(global, &factory, dry_run).await,
        Image::History { name, tag } => history(global, context, &name, tag.as_deref()).await,
        Image::Solve { file, arch } => solve(global, context, &file, arch).await,
        Image::Build { name, output } => build(global, context, &name, &output).await,
    }
}

async fn plan(global: &Global, context: &Context) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    let mut held = false;
    for message in image_plans(context) {
        let (due, reason) = match message.decide(context).await.or_environment()? {
            Decision::Due(plan) => ("due", plan.reason),
            Decision::NotDue(reason) => ("not due", reason),
            Decision::Held(reason) => {
                held = true;
                ("held", reason)
            }
        };
        rows.push((message, due, reason));
    }
    for proposal in proposed(context).await.or_environment()? {
        let reason = format!("the repository has {}, and no stream follows it", proposal.version);
        rows.push((ImagePlan { image: proposal.image, stream: proposal.stream }, "proposed", reason));
    }
    match global.format {
        Format::Json => {
            let rows: Vec<_> =
                rows.iter().map(|(message, due, reason)| json!({ "image": message.image, "stream": message.stream, "plan": due, "reason": reason })).collect();
            output::json(&rows)?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|(message, due, reason)| {
                    vec![message.image.clone(), message.stream.clone(), (*due).to_owned(), reason.clone()]
                })
                .collect();
            output::text(table(&["IMAGE", "STREAM", "PLAN", "WHY"], &rows))?;
        }
    }
    Ok(u8::from(held))
}

async fn list(global: &Global, context: &Context) -> Result<u8, Failure> {
    let rows = releases(context).await.or_environment()?;
    match global.format {
        Format::Json => output::json(&rows)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let release = &row.release;
                    let platforms = release
                        .platforms
                        .iter()
                        .map(|(architecture, digest)| format!("{}={digest}", architecture.oci()));
                    vec![
                        row.name.clone(),
                        release.stream.clone(),
                        row.status.as_str().to_owned(),
                        release.tags.join(" "),
                        release.timestamp_tag.clone(),
                        release.digest.to_string(),
                        platforms.collect::<Vec<_>>().join(" "),
                        release.time.to_string(),
                        size(release.size),
                    ]
                })
                .collect();
            output::text(table(
                &["IMAGE", "STREAM", "STATUS", "TAGS", "TIMESTAMP TAG", "DIGEST", "PLATFORMS", "TIME", "SIZE"],
                &rows,
            ))?;
        }
    }
    Ok(0)
}

async fn prune(global: &Global, factory: &Factory, dry_run: bool) -> Result<u8, Failure> {
    let _lock = factory.lock().await?;
    let context = &factory.context;
    let Some(retention) = context.settings.retention else {
        return Err(Failure::usage(
            "nothing says what may go; write `[retention]` with `digests` and `days` into mill.toml",
        ));
    };
    let removals = stage::prune(context, retention, dry_run).await.map_err(Failure::of_stage)?;
    match global.format {
        Format::Json => output::json(&removals)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = removals
                .into_iter()
                .map(|gone| vec![gone.image, gone.timestamp_tag, gone.digest.to_string(), gone.published.to_string()])
                .collect();
            output::text(table(&["IMAGE", "TIMESTAMP TAG", "DIGEST", "PUBLISHED"], &rows))?;
        }
    }
    Ok(0)
}

async fn history(global: &Global, context: &Context, name: &str, tag: Option<&str>) -> Result<u8, Failure> {
    let moves = tag_history(context, name, tag).await.or_environment()?;
    if moves.is_empty() {
        let what = tag.map_or_else(|| format!("image `{name}` was"), |tag| format!("tag `{tag}` of `{name}` was"));
        return Err(Failure::bad(format!("{what} never published; `mill image list` lists what was")));
    }
    match global.format {
        Format::Json => output::json(&moves)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = moves
                .into_iter()
                .map(|moved| {
                    let named =
                        |digest: Option<ports::Digest>| digest.map_or_else(|| "-".to_owned(), |one| one.to_string());
                    vec![moved.time.to_string(), moved.tag, named(moved.from), named(moved.to), moved.reason]
                })
                .collect();
            output::text(table(&["TIME", "TAG", "FROM", "TO", "WHY"], &rows))?;
        }
    }
    Ok(0)
}

/// An image's configurations: one per stream of a catalog image, or the file's.
fn configurations(context: &Context, name: &str) -> Result<Vec<ImageConfiguration>, Failure> {
    if let Some(source) = context.catalog.images.get(name) {
        let file = format!("images/{name}/apko.yaml");
        let streams = source.definition.streams.iter();
        return streams
            .map(|stream| {
                ImageConfiguration::parse(&ImageDefinition::expand(&source.configuration, stream), &file).or_bad()
            })
            .collect();
    }
    if !name.ends_with(".yaml") {
        return Err(Failure::usage(format!("the catalog has no image `{name}`; a file's name ends in `.yaml`")));
    }
    let text = std::fs::read_to_string(name).map_err(|error| Failure::bad(format!("read `{name}`: {error}")))?;
    Ok(vec![ImageConfiguration::parse(&text, name).or_bad()?])
}

fn wants(configuration: &ImageConfiguration) -> Vec<String> {
    configuration.contents.packages.iter().map(|want| want.value.clone()).collect()
}

async fn solve(
    global: &Global,
    context: &Context,
    file: &Path,
    architecture: Option<Architecture>,
) -> Result<u8, Failure> {
    let architecture = architecture.or_else(Architecture::host).unwrap_or(Architecture::X86_64);
    let name = file.display().to_string();
    let mut lines = Vec::new();
    for configuration in configurations(context, &name)? {
        let wants = wants(&configuration);
        if let Some(error) = wants.iter().find_map(|want| want.parse::<Dependency>().err()) {
            return Err(Failure::bad(chain(&error)));
        }
        let resolved = resolve(context, architecture, &name, &wants).await.map_err(Failure::of_stage)?;
        lines.extend(resolved.into_iter().map(|resolved| {
            let information = resolved.entry.information;
            format!("{}={}", information.name, information.version)
        }));
    }
    match global.format {
        Format::Json => output::json(&lines)?,
        Format::Text => output::text(lines.join("\n"))?,
    }
    Ok(0)
}

/// Composes an image from the home's packages, without testing or publishing it.
async fn build(global: &Global, context: &Context, name: &str, folder: &Path) -> Result<u8, Failure> {
    let configurations = configurations(context, name)?;
    let Some(configuration) = configurations.last() else {
        return Err(Failure::bad(format!("image `{name}` has no stream")));
    };
    let settings = Settings::from_definition(configuration, Vec::new()).or_bad()?;
    let mut layout = image::Layout::create(folder).or_bad()?;
    let mut composed = Vec::new();
    for architecture in &context.settings.architectures {
        let resolved = resolve(context, *architecture, name, &wants(configuration)).await.map_err(Failure::of_stage)?;
        let packages = files(context, &resolved).await.or_bad()?;
        let created = image::created(context.settings.source_date_epoch, &packages);
        let composition =
            Composition { packages: &packages, settings: &settings, architecture: *architecture, created };
        composed.push(image::compose(&composition, &mut layout).or_bad()?);
    }
    let (mut index, _) = image::compose_index(&composed, &settings, &mut layout).or_bad()?;
    let digest = index.digest().to_string();
    index.set_annotations(Some([("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned())].into()));
    layout.write_index(vec![index]).or_bad()?;
    let platforms: BTreeMap<&str, String> =
        composed.iter().map(|image| (image.architecture.oci(), image.manifest.digest().to_string())).collect();
    match global.format {
        Format::Json => {
            output::json(&json!({ "image": name, "digest": digest, "platforms": platforms, "output": folder }))?
        }
        Format::Text => output::text(format!("{} {digest}", folder.display()))?,
    }
    Ok(0)
}
