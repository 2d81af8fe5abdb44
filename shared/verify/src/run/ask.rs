//! Starting a container, asking it, and ending it.

use sandbox::{Container, ContainerJob, Ending, Exchange, Finished, Request, Runc};

use super::{Question, Ready, Run};
use crate::Error;
use crate::report::{Checks, Finding};

const EVIDENCE_BYTES: usize = 4096;

impl Run {
    pub(super) async fn ask(
        &self,
        job: &ContainerJob,
        runc: &Runc,
        prefix: &str,
        checks: &mut Checks,
    ) -> Result<(), Error> {
        let container = match runc.start(job).await {
            Ok(container) => container,
            Err(error @ sandbox::Error::Runc { .. }) => {
                checks.add(format!("{prefix}/start"), Finding::failed(error.to_string(), Vec::new()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        checks.add(format!("{prefix}/start"), Finding::passed(format!("started as user {}", job.process.user.id)));
        let Some(ready) = &self.ready else {
            let ended = tokio::time::timeout(self.stop.within, container.finish()).await;
            let finding = match ended {
                Ok(finished) => self.ended_as_expected(&finished?),
                Err(_) => Finding::failed(format!("it runs after {} ms", self.stop.within.as_millis()), Vec::new()),
            };
            checks.add(format!("{prefix}/end"), finding);
            return Ok(());
        };
        let (is_ready, finding) = wait(&container, ready).await;
        checks.add(format!("{prefix}/ready"), finding);
        self.look_inside(&container, is_ready, prefix, checks).await;
        for question in &self.checks {
            let finding = if is_ready {
                answer(&container, question).await
            } else {
                Finding::not_run("the server was not ready")
            };
            checks.add(format!("{prefix}/answer/{}", question.name), finding);
        }
        let signal = format!("{:?}", self.stop.signal).to_uppercase();
        let ended = container.has_ended() || !is_ready && container.ends_soon().await;
        let finding = if ended {
            let finished = container.finish().await?;
            Finding::failed(
                format!("it ended by itself with {}", finished.ending),
                written(&finished.stdout, &finished.stderr),
            )
        } else {
            self.ended_as_expected(&container.stop(&signal, self.stop.within).await?)
        };
        checks.add(format!("{prefix}/stop"), finding);
        Ok(())
    }

    fn ended_as_expected(&self, finished: &Finished) -> Finding {
        let codes = self.stop.exit_code.as_slice();
        let took = finished.duration.as_millis();
        match &finished.ending {
            Ending::Exited(code) if codes.contains(code) => {
                Finding::passed(format!("ended with exit code {code} in {took} ms"))
            }
            Ending::Exited(code) => {
                let message = format!("ended with exit code {code}, expected one of {codes:?}");
                Finding::failed(message, written(&finished.stdout, &finished.stderr))
            }
            Ending::TimedOut(within) if *within == self.stop.within => {
                let signal = format!("{:?}", self.stop.signal).to_uppercase();
                let message = format!("alive {} ms after SIG{signal}", within.as_millis());
                Finding::failed(message, written(&finished.stdout, &finished.stderr))
            }
            other => Finding::failed(format!("was ended: {other}"), written(&finished.stdout, &finished.stderr)),
        }
    }
}

async fn wait(container: &Container, ready: &Ready) -> (bool, Finding) {
    let (port, within) = (ready.port.0, ready.within);
    match connect(container, Request { port, send: Vec::new(), within }, |_| true).await {
        Ok(Exchange::Answered { .. }) => (true, Finding::passed(format!("port {port} accepts"))),
        Ok(Exchange::NoConnection(reason)) => {
            let message = format!("port {port} does not accept within {} ms: {reason}", within.as_millis());
            (false, Finding::failed(message, output(container)))
        }
        Err(reason) => (false, Finding::failed(reason, output(container))),
    }
}

async fn connect(
    container: &Container,
    request: Request,
    complete: impl Fn(&[u8]) -> bool + Send + 'static,
) -> Result<Exchange, String> {
    match container.exchange(request, complete).await {
        Ok(exchange) => Ok(exchange),
        Err(_) if container.ends_soon().await => Err("it has ended by itself".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn answer(container: &Container, question: &Question) -> Finding {
    let (port, expect) = (question.port.0, &question.expect);
    let request = Request { port, send: question.send.clone().into_bytes(), within: question.within };
    let expression = question.expect.clone();
    match connect(container, request, move |bytes| expression.is_match(bytes)).await {
        Ok(Exchange::Answered { complete: true, .. }) => Finding::passed(format!("port {port} answers `{expect}`")),
        Ok(Exchange::Answered { bytes, .. }) => {
            let message = format!("the answer of port {port} does not match `{expect}`");
            let mut evidence = vec![excerpt("answer", &bytes)];
            evidence.extend(output(container));
            Finding::failed(message, evidence)
        }
        Ok(Exchange::NoConnection(reason)) => {
            Finding::failed(format!("port {port} does not accept: {reason}"), output(container))
        }
        Err(reason) => Finding::failed(reason, output(container)),
    }
}

pub(super) fn output(container: &Container) -> Vec<String> {
    let (stdout, stderr) = container.output();
    written(&stdout, &stderr)
}

fn written(stdout: &[u8], stderr: &[u8]) -> Vec<String> {
    vec![excerpt("standard output", stdout), excerpt("standard error", stderr)]
}

/// The end of what was written, which is where a failure shows.
fn excerpt(what: &str, bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(EVIDENCE_BYTES);
    let more = if from > 0 { " (end)" } else { "" };
    format!("{what}{more}:\n{}", String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()))
}
