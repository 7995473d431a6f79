//! The section of docs/benchmarks.md that a run writes.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Report, table};

const BEGIN: &str = "<!-- compare: begin, written by `compare --markdown` -->";
const END: &str = "<!-- compare: end -->";

/// Puts the report into `file` in place of the last one, or at its end; makes the file if it is not there.
///
/// # Errors
/// If the file can't be read or written, or one of the two marks in it is missing.
pub fn write_section(file: &Path, report: &Report, chart: Option<&Path>) -> Result<()> {
    let old = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::from("# Benchmarks\n"),
        read => read.with_context(|| file.display().to_string())?,
    };
    let section = section(
        report,
        chart
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy())
            .as_deref(),
    );
    let new = replace(&old, &section).with_context(|| file.display().to_string())?;
    fs::write(file, new).with_context(|| file.display().to_string())
}

fn section(report: &Report, chart: Option<&str>) -> String {
    let machine = &report.machine;
    let seconds = report.settings.seconds;
    let mut text = String::from("## Side by side with other switches\n\n");
    let _ = writeln!(
        text,
        "{}, {} cores, Linux {}, {}. {} rounds over all peers in turn; medians, and in parentheses the ratio to the \
         Linux bridge of the same run. TCP: iperf3, cubic, {} s a run. Frames: one generator over AF_PACKET, {} s a run, \
         sizes without frame check sequence. Round trips: {} s a run; the median over TCP with both ends on one processor, time by exchange of flood ping. \
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

fn replace(old: &str, section: &str) -> Result<String> {
    let (before, after) = match (old.split_once(BEGIN), old.split_once(END)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after),
        (None, None) => (format!("{}\n\n", old.trim_end()), "\n"),
        _ => bail!("the marks of the section are not both there"),
    };
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, replace};

    #[test]
    fn a_section_replaces_the_last_one_and_nothing_else() {
        let first = replace("# Benchmarks\n", "one\n").unwrap();
        assert_eq!(first.lines().next(), Some("# Benchmarks"));
        let with_more = format!("{first}\n## More\n");
        let second = replace(&with_more, "two\n").unwrap();
        assert_eq!(second, with_more.replace("one", "two"));
    }

    #[test]
    fn half_a_section_is_left_alone() {
        assert!(replace(&format!("{BEGIN}\nmine\n"), "two\n").is_err());
    }
}
