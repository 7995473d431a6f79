//! Impairments, policers and storm control, one a line.

use std::fmt::Display;

use vswitch_api::RateLimit;
use vswitch_api::traffic::{CLASSES, ClassCounters};
use vswitch_api::view::PortView;

use super::page::Page;
use super::table::{Table, list, number, word};
use super::{Style, units};

/// The table of impairments, a line for each direction.
pub fn impairments(style: Style, views: &[PortView]) -> String {
    let titles = [
        word("PORT"),
        word("DIRECTION"),
        number("WAITING"),
        number("LOST"),
        list("SETTINGS"),
    ];
    let mut table = Table::new(style, &titles);
    for view in views {
        let counters = &view.counters;
        for (way, settings) in view.port.impair.iter() {
            let (waiting, drops) = match way {
                "in" => (counters.impair.rx_waiting, &counters.rx_drops),
                _ => (counters.impair.tx_waiting, &counters.tx_drops),
            };
            let lost = drops.iter().filter(|(reason, _)| reason.starts_with("impair-"));
            table.row([
                view.port.name.to_string(),
                way.to_owned(),
                units::count(waiting),
                units::count(lost.map(|(_, count)| count).sum()),
                one_word(settings),
            ]);
        }
    }
    table.render()
}

/// The table of policers.
pub fn policers(style: Style, views: &[PortView]) -> String {
    let mut table = Table::new(style, &[word("PORT"), number("DROPPED"), list("LIMIT")]);
    for view in views {
        if let Some(limit) = &view.port.police {
            table.row([view.port.name.to_string(), dropped(view, "policed"), limit_word(limit)]);
        }
    }
    table.render()
}

/// The table of storm control, a line for each class. Drops are counted for all classes of a port together.
pub fn storms(style: Style, views: &[PortView]) -> String {
    let mut table = Table::new(style, &[word("PORT"), number("DROPPED"), word("CLASS"), list("LIMIT")]);
    for view in views {
        for (class, limit) in view.port.storm.iter() {
            table.row([
                view.port.name.to_string(),
                dropped(view, "storm"),
                class.to_owned(),
                limit_word(limit),
            ]);
        }
    }
    table.render()
}

/// The lines on the page of a port; none if nothing is set.
pub fn lines(page: &mut Page, view: &PortView) {
    let impairments = view.port.impair.iter();
    page.list(
        "impairment",
        impairments.map(|(way, settings)| format!("{way}: {settings}")),
    );
    page.list("policer", view.port.police.iter());
    let storms = view.port.storm.iter();
    page.list(
        "storm control",
        storms.map(|(class, limit)| format!("{class}: {limit}")),
    );
}

/// What impairment did to frames that came in, below the line of those.
pub fn received(page: &mut Page, view: &PortView) {
    let of = &view.counters.impair;
    parts(
        page,
        [
            ("waiting", of.rx_waiting),
            ("doubled", of.rx_duplicates),
            ("corrupted", of.rx_corrupted),
            ("reordered", of.rx_reordered),
        ],
    );
    classes(page, of.rx_classes);
}

/// The same for frames that go out.
pub fn sent(page: &mut Page, view: &PortView) {
    let of = &view.counters.impair;
    parts(
        page,
        [
            ("waiting", of.tx_waiting),
            ("doubled", of.tx_duplicates),
            ("cut from GSO", of.tx_segments),
            ("corrupted", of.tx_corrupted),
            ("reordered", of.tx_reordered),
        ],
    );
    classes(page, of.tx_classes);
}

fn parts<const N: usize>(page: &mut Page, counts: [(&str, u64); N]) {
    for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        page.part(key, units::grouped(count));
    }
}

/// The traffic classes that had frames, the first to be sent first.
fn classes(page: &mut Page, classes: Option<[ClassCounters; CLASSES]>) {
    let Some(classes) = classes else { return };
    for (class, counters) in classes.iter().enumerate().rev() {
        if *counters != ClassCounters::default() {
            let ClassCounters { waiting, sent, dropped } = *counters;
            let [waiting, sent, dropped] = [waiting, sent, dropped].map(units::grouped);
            page.part(
                &format!("class {class}"),
                format!("{sent} sent, {waiting} waiting, {dropped} dropped"),
            );
        }
    }
}

fn dropped(view: &PortView, reason: &str) -> String {
    units::count(view.counters.rx_drops.get(reason).copied().unwrap_or(0))
}

/// `delay=20ms,loss=1%`
fn one_word(settings: &impl Display) -> String {
    settings.to_string().replace(", ", ",").replace(' ', "=")
}

/// `100mbit/64k,1000pps`: rates with their bursts.
fn limit_word(limit: &RateLimit) -> String {
    limit.to_string().replace(", ", ",").replace(" burst ", "/")
}
