use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stage::{Outcome, Progress, Running, StageError};

/// A spinner per running stage on a terminal, a line per ended stage on stderr otherwise.
pub struct Bars {
    bars: MultiProgress,
    terminal: bool,
}

impl Bars {
    /// Bars on stderr.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), terminal: std::io::stderr().is_terminal() }
    }
}

struct Bar {
    bar: Option<ProgressBar>,
    bars: MultiProgress,
    stage: &'static str,
    subject: String,
    start: Instant,
}

impl Progress for Bars {
    fn started(&self, stage: &'static str, subject: &str) -> Box<dyn Running> {
        let bar = self.terminal.then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(format!("{stage:<18} {subject}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Box::new(Bar { bar, bars: self.bars.clone(), stage, subject: subject.to_owned(), start: Instant::now() })
    }
}

impl Running for Bar {
    fn finished(&self, result: &Result<Outcome, StageError>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (mark, text) = match result {
            Ok(Outcome::Done(text)) => ("done", text.clone()),
            Ok(Outcome::Skipped(text)) => ("skip", text.clone()),
            Ok(Outcome::Failed(text)) => ("FAIL", text.clone()),
            Err(error) => ("FAIL", error.to_string()),
        };
        let seconds = self.start.elapsed().as_secs_f64();
        let line = format!("{mark} {:<18} {:<18} {seconds:>6.1}s  {text}", self.stage, self.subject);
        if self.bar.is_some() {
            // A lost progress line is no reason to stop the work it tells of.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}
