use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use sandbox::Bubblewrap;
use stage::{Job, JobRunner, LocalBuilder};
use verify::Containers;

use crate::arguments::{Global, Job as Command};
use crate::output::{self, Failure, Format, OrFail};

pub async fn run(global: &Global, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run { input, output } => run_job(global.format, &input, &output).await,
    }
}

/// Runs a job that is a file. It needs no home: what it makes on the way lies in the temporary folder.
async fn run_job(format: Format, input: &Path, answer: &Path) -> Result<u8, Failure> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| Failure::environment(format!("`{path}`: {error}"))
    };
    let scratch = tempfile::Builder::new().prefix("mill-job-").tempdir().or_environment()?;
    let folder = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).map(|()| path.clone()).map_err(named(&path))
    };
    let (given, work, logs) = (folder("job")?, folder("work")?, folder("logs")?);
    let mut file = File::open(input).map_err(named(input))?;
    let digest = ports::local::digest_of(&mut file).map_err(named(input))?;
    let job = Job::read(File::open(input).map_err(named(input))?, &given)
        .map_err(|error| Failure::bad(format!("`{}`: {}", input.display(), stage::chain(&error))))?;
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let bubblewrap = Bubblewrap::find(&search_path, &work).or_environment()?;
    let containers = Containers::find(&search_path, &work).await.or_environment()?;
    let builder = LocalBuilder::new(bubblewrap, work.clone(), logs);
    let runner = JobRunner { builder: &builder, containers: &containers, work: &work };
    let beside = answer.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(beside).map_err(named(beside))?;
    let told = runner.run(&job, digest, BufWriter::new(temporary.as_file_mut())).await.or_environment()?;
    temporary.as_file().sync_all().map_err(named(answer))?;
    temporary.persist(answer).map_err(|error| named(answer)(error.error))?;
    match format {
        Format::Json => output::json(&serde_json::json!({ "job": digest, "answer": answer, "outcome": told }))?,
        Format::Text => output::text(told)?,
    }
    Ok(0)
}
