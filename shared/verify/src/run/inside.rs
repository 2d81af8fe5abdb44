//! What is looked at while a container serves: its main process, ports, capabilities and orphans.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbox::{Container, Orphan};

use super::{Port, Run, ask};
use crate::document::Text;
use crate::report::{Checks, Finding};

const REAPED_WITHIN: Duration = Duration::from_secs(2);

impl Run {
    pub(super) async fn look_inside(&self, container: &Container, is_ready: bool, prefix: &str, checks: &mut Checks) {
        let not_ready = || Finding::not_run("the server was not ready");
        if let Some(program) = &self.pid_1 {
            let finding = if is_ready { main_process(container, program) } else { not_ready() };
            checks.add(format!("{prefix}/pid-1"), finding);
        }
        if let Some(ports) = &self.listening {
            let finding = if is_ready { listening(container, ports) } else { not_ready() };
            checks.add(format!("{prefix}/listening"), finding);
        }
        let finding = match (is_ready, self.drops_capabilities) {
            (_, false) => Finding::not_applicable("the suite says that it keeps its capabilities"),
            (false, true) => not_ready(),
            (true, true) => capabilities(container),
        };
        checks.add(format!("{prefix}/capabilities"), finding);
        if self.reaps {
            let finding = if is_ready { reaps(container).await } else { not_ready() };
            checks.add(format!("{prefix}/reaps"), finding);
        }
    }
}

fn gone(error: &sandbox::Error, container: &Container) -> Finding {
    Finding::failed(format!("it has ended while it was looked at: {error}"), ask::output(container))
}

fn main_process(container: &Container, expected: &Text) -> Finding {
    match container.program() {
        Err(error) => gone(&error, container),
        Ok(program) => {
            let matches =
                program.file_name().is_some_and(|name| name == &**expected) || program.as_os_str() == &**expected;
            let shown = program.display();
            if matches {
                Finding::passed(format!("process 1 is `{shown}`"))
            } else {
                let message = format!(
                    "process 1 is `{shown}`, expected `{expected}`; start it by `exec`, so that signals reach it"
                );
                Finding::failed(message, Vec::new())
            }
        }
    }
}

fn listening(container: &Container, expected: &[Port]) -> Finding {
    let found = match container.listening() {
        Err(error) => return gone(&error, container),
        Ok(found) => found,
    };
    let expected: BTreeSet<u16> = expected.iter().map(|port| port.0).collect();
    let absent = expected.difference(&found).map(|port| format!("nothing listens on port {port}"));
    let strange = found.difference(&expected);
    let strange =
        strange.map(|port| format!("something listens on port {port}; turn it off, or add it to `listening`"));
    let shown: Vec<String> = found.iter().map(u16::to_string).collect();
    Finding::of(absent.chain(strange).collect(), format!("the ports that listen are {}", shown.join(", ")))
}

fn capabilities(container: &Container) -> Finding {
    match container.holders() {
        Err(error) => gone(&error, container),
        Ok(holders) => {
            let complaints = holders.iter().map(|holder| {
                format!(
                    "`{}` holds capabilities (CapEff {:016x}); let it drop them, or set `drops-capabilities: false`",
                    holder.name, holder.effective
                )
            });
            Finding::of(complaints.collect(), "no process holds a capability")
        }
    }
}

async fn reaps(container: &Container) -> Finding {
    match container.orphan(REAPED_WITHIN).await {
        Err(error) => gone(&error, container),
        Ok(Orphan::Reaped) => Finding::passed("process 1 waits for processes that have lost their parent"),
        Ok(Orphan::Zombie) => Finding::failed(
            "process 1 does not wait for processes that have lost their parent, so they pile up as zombies; \
             start it by an init such as `tini`, or drop `reaps`",
            Vec::new(),
        ),
        Ok(Orphan::NotTried(reason)) => Finding::not_run(reason),
    }
}
