//! Completions and man pages, made of the command line's own definition; used by the build script and by
//! `vswitchctl completions` and `vswitchctl man`.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vswitchctl", &mut script);
    script
}

/// The page of the tool as a whole, in roff.
pub fn main_page(out: &mut impl Write) -> io::Result<()> {
    Man::new(Cli::command()).render(out)
}

/// Writes the pages of the tool and of every command into a directory.
pub fn all_pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
