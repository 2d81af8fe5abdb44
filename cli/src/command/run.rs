use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stage::{Context, StageError, Summary};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cycle::WORKERS;
use super::serve::{ended, serve};
use crate::arguments::Global;
use crate::factory::Factory;
use crate::output::{Failure, OrFail};

const PACKAGES_EVERY: Duration = Duration::from_secs(15 * 60);
const SCANS_EVERY: Duration = Duration::from_secs(4 * 60 * 60);
const IMAGES_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the schedules, and serves, until asked to end; then finishes what is running.
pub async fn run(global: &Global, listen: SocketAddr) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let _lock = factory.lock().await?;
    let (stop, stopped) = watch::channel(false);
    let stopping = Arc::clone(&factory.context.stopping);
    tokio::spawn(async move {
        ended().await;
        stopping.store(true, Ordering::Relaxed);
        // Nobody listens any more once both the server and the schedules have ended.
        let _ = stop.send(true);
    });
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // A closed channel means the same: nobody can ask later.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let (served, scheduled) = tokio::join!(
        serve(&factory.home, listen, false, until(stopped.clone())),
        schedule(&factory.context, until(stopped))
    );
    served?;
    scheduled.or_environment()?;
    Ok(0)
}

async fn schedule(context: &Arc<Context>, stop: impl Future<Output = ()>) -> Result<(), StageError> {
    let mut stop = std::pin::pin!(stop);
    let start = Instant::now();
    let (mut packages, mut images, mut scans) = (start, start, start);
    loop {
        let now = Instant::now();
        if packages <= now {
            packages = now + PACKAGES_EVERY;
            log(&stage::update_packages(context, WORKERS).await?);
        }
        if images <= now {
            images = now + IMAGES_EVERY;
            log(&stage::update_images(context, WORKERS).await?);
        }
        if scans <= now {
            scans = now + SCANS_EVERY;
            log(&stage::update_vex(context, WORKERS).await?);
            log(&stage::scan(context, None, WORKERS).await?.0);
        }
        tokio::select! {
            () = tokio::time::sleep_until(packages.min(images).min(scans)) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

fn log(summary: &Summary) {
    for (stage, count) in &summary.stages {
        tracing::info!(stage, done = count.done, skipped = count.skipped, failed = count.failed, "schedule");
    }
}
