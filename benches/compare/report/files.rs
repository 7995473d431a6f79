//! The files that a run writes, if it is asked to.

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

use super::markdown::write_between;

#[derive(Args)]
pub struct Files {
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a chart of them here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the tables into this document, in place of the last ones
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl Files {
    /// Said before a long run and not after it.
    ///
    /// # Errors
    /// If a file is to be in a directory that there isn't.
    pub fn check_directories(&self) -> Result<()> {
        for path in [&self.json, &self.svg, &self.markdown].into_iter().flatten() {
            let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
            ensure!(
                directory.is_none_or(Path::is_dir),
                "{}: there is no such directory",
                path.display()
            );
        }
        Ok(())
    }

    /// Writes all figures, the chart, and the section between the marks of this name, which is told how to link the chart.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(
        &self,
        figures: &impl Serialize,
        chart: &str,
        mark: &str,
        section: impl FnOnce(Option<&str>) -> String,
    ) -> Result<()> {
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(figures)? + "\n"))?;
        }
        if let Some(path) = &self.svg {
            write(path, chart)?;
        }
        if let Some(path) = &self.markdown {
            let link = self.svg.as_deref().map(|svg| link(path, svg));
            write_between(path, mark, &section(link.as_deref()))?;
        }
        Ok(())
    }
}

/// How a document names a chart that lies beside or below it.
fn link(document: &Path, chart: &Path) -> String {
    let folder = document.parent().unwrap_or(Path::new(""));
    chart.strip_prefix(folder).unwrap_or(chart).display().to_string()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_named_as_seen_from_the_document() {
        let from = |document: &str, chart: &str| link(Path::new(document), Path::new(chart));
        assert_eq!(
            from("docs/benchmarks.md", "docs/benchmarks/suite.svg"),
            "benchmarks/suite.svg"
        );
        assert_eq!(from("a.md", "a.svg"), "a.svg");
    }
}
