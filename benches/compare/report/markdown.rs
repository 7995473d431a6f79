//! The section of docs/benchmarks.md that a run writes.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Report, table};

/// Name of the marks.
pub const SECTION: &str = "compare";

/// Puts `section` between the marks of this name in `file`, or with them at its end; makes the file if it is not there.
///
/// # Errors
/// If the file can't be read or written, or one of the two marks in it is missing.
pub fn write_between(file: &Path, name: &str, section: &str) -> Result<()> {
    let old = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::from("# Benchmarks\n"),
        read => read.with_context(|| file.display().to_string())?,
    };
    let new = replace(&old, name, section).with_context(|| file.display().to_string())?;
    fs::write(file, new).with_context(|| file.display().to_string())
}

/// The report; `chart`: how to link its chart.
pub fn section(report: &Report, chart: Option<&str>) -> String {
    let machine = &report.machine;
    let seconds = report.settings.seconds;
    let mut text = String::from("## Side by side with other switches\n\n");
    let _ = writeln!(
        text,
        "{}, {} cores, Linux {}, {}. {} rounds over all peers in turn; medians, and in parentheses the ratio to the \
         Linux bridge of the same run. TCP: iperf3, cubic, {} s a run. Frames: one generator over AF_PACKET, {} s a run, \
         sizes without frame check sequence. Round trips: {} s a run; the median over TCP with both ends on one processor, time by exchange of flood ping; the median of \
         echo requests whose asker polls for the answer. \
         Processor time: TCP with one stream forth, by gigabyte that arrived; 60-byte frames, by million that arrived.",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.date,
        report.settings.rounds,
        seconds.tcp,
        seconds.frames,
        seconds.rtt,
    );
    for line in &report.settings.datapath {
        let _ = write!(text, "\n* vswitchd.toml: `{line}`");
    }
    for (program, version) in &machine.versions {
        let _ = write!(text, "\n* {program}: {version}");
    }
    let _ = write!(text, "\n\n{}\n", table::markdown(report));
    for failure in &report.failures {
        let _ = write!(
            text,
            "\nRound {}, {}: {}\n",
            failure.round,
            failure.peer.name(),
            failure.error
        );
    }
    if let Some(chart) = chart {
        let _ = write!(text, "\n![Bars of the medians]({chart})\n");
    }
    text
}

fn replace(old: &str, name: &str, section: &str) -> Result<String> {
    let (begin, end) = (begin(name), format!("<!-- {name}: end -->"));
    let (before, after) = match (old.split_once(&begin), old.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after),
        (None, None) => (format!("{}\n\n", old.trim_end()), "\n"),
        _ => bail!("the marks of the section {name} are not both there"),
    };
    Ok(format!("{before}{begin}\n{section}{end}{after}"))
}

fn begin(name: &str) -> String {
    let command = if name == SECTION { "compare" } else { "compare suite" };
    format!("<!-- {name}: begin, written by `{command} --markdown` -->")
}

#[cfg(test)]
mod tests {
    use super::{SECTION, begin, replace};

    #[test]
    fn a_section_replaces_the_last_one_and_nothing_else() {
        let first = replace("# Benchmarks\n", SECTION, "one\n").unwrap();
        assert_eq!(first.lines().next(), Some("# Benchmarks"));
        let with_more = format!("{first}\n## More\n");
        let second = replace(&with_more, SECTION, "two\n").unwrap();
        assert_eq!(second, with_more.replace("one", "two"));
    }

    #[test]
    fn half_a_section_is_left_alone() {
        assert!(replace(&format!("{}\nmine\n", begin(SECTION)), SECTION, "two\n").is_err());
    }
}
