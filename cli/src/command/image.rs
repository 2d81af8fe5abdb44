use serde_json::json;
use stage::{Context, Decision, ImagePlan, image_plans, proposed, releases, tag_history};

use crate::arguments::{Global, Image};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail, table};

use super::cycle::size;
use super::{image_build, image_lock, image_solve, image_test};

pub async fn run(global: &Global, command: Image) -> Result<u8, Failure> {
    match command {
        Image::Plan => plan(global, &Factory::open(global).await?.context).await,
        Image::List => list(global, &Factory::open(global).await?.context).await,
        Image::Prune { dry_run } => prune(global, &Factory::open(global).await?, dry_run).await,
        Image::History { name, tag } => {
            history(global, &Factory::open(global).await?.context, &name, tag.as_deref()).await
        }
        Image::Solve(solve) => image_solve::run(global, &solve).await,
        Image::Build { name, output, lockfile, sbom_path, compression, repositories } => {
            let folders = image_build::Folders { layout: &output, documents: sbom_path.as_deref() };
            image_build::run(global, &name, folders, &repositories, lockfile.as_deref(), compression).await
        }
        Image::Lock(lock) => image_lock::run(global, &lock).await,
        Image::Test(test) => image_test::run(global, &test).await,
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
