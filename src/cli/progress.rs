//! Progress bars of long work.
//!
//! Promise: they go to stderr, and only when it is a terminal; otherwise nothing is drawn.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);
const KNOWN: &str = "{msg} {wide_bar} {human_pos}/{human_len} rows {per_sec} {eta}";
const UNKNOWN: &str = "{spinner} {msg} {human_pos} rows {per_sec}";
const PLAIN: &str = "{spinner} {msg} {elapsed}";

/// A bar over rows; a spinner with a count when the total is unknown.
pub(super) fn rows(what: &str, total: Option<u64>) -> ProgressBar {
    shown(total, if total.is_some() { KNOWN } else { UNKNOWN }, what)
}

/// A spinner for work whose end cannot be told.
pub(super) fn spinner(what: &str) -> ProgressBar {
    shown(None, PLAIN, what)
}

/// A bar that is never drawn, for work whose result itself goes to the terminal.
pub(super) fn none() -> ProgressBar {
    ProgressBar::hidden()
}

fn shown(total: Option<u64>, template: &str, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return none();
    }
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}
