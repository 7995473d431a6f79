//! Commands that run in namespaces: the table, and the page of one.

use vswitch_api::{ProcessState, ProcessView};

use super::Style;
use super::page::Page;
use super::table::{Table, Tone, number, word};
use super::units::{duration, or_dash};

/// The table of commands.
pub fn table(style: Style, views: &[ProcessView]) -> String {
    let titles = [
        word("NAME"),
        word("NAMESPACE"),
        word("STATE"),
        word("SINCE"),
        number("PID"),
        number("RESTARTS"),
        word("EXIT"),
    ];
    let mut table = Table::new(style, &titles);
    let mut reasons = String::new();
    for view in views {
        table.toned_row([
            (view.name.clone(), None),
            (or_dash(view.namespace.as_ref()), None),
            (view.state.to_string(), Some(tone(view.state))),
            (duration(view.since_secs), None),
            (or_dash(view.pid.as_ref()), None),
            (view.restarts.to_string(), None),
            (exit(view), None),
        ]);
        if let Some(reason) = view.reason.as_ref().filter(|_| tone(view.state) != Tone::Good) {
            reasons += &format!("{}: {reason}\n", view.name);
        }
    }
    table.render() + &reasons
}

/// All about one.
pub fn page(style: Style, view: &ProcessView) -> String {
    let mut page = Page::new(style, format!("command {}", view.name));
    page.line("namespace", or_dash(view.namespace.as_ref()));
    page.line("state", view.state.to_string());
    if let Some(reason) = &view.reason {
        page.line("", reason);
    }
    page.line("since", duration(view.since_secs));
    page.line("pid", or_dash(view.pid.as_ref()));
    page.line("restarts", view.restarts.to_string());
    page.line("last exit", exit(view));
    page.list("argv", view.argv.iter().map(|word| format!("{word:?}")));
    page.render()
}

fn exit(view: &ProcessView) -> String {
    match (&view.signal, view.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, code) => or_dash(code.as_ref()),
    }
}

fn tone(state: ProcessState) -> Tone {
    match state {
        ProcessState::Running | ProcessState::Ended => Tone::Good,
        ProcessState::Starting | ProcessState::Waiting => Tone::Notice,
        ProcessState::Failed | ProcessState::Missing => Tone::Bad,
        _ => Tone::Notice,
    }
}
