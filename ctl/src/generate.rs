//! Completion scripts and man pages; used by the build script and by
//! `vswitchctl completions` and `vswitchctl man`.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::man::sections;

/// What the page of the tool has besides its help.
const OF_TOOL: &str = "\
Environment:
  VSWITCH_SOCKET   as --socket
  VSWITCH_TIMEOUT  as --timeout
  NO_COLOR         no colours (https://no-color.org)

Files:
  /run/vswitch/control.sock  the control socket of the daemon
  /var/lib/vswitch           what survives a reboot

See also:
  vswitchd(8), ip-netns(8), bridge(8), tcpdump(1)";
/// What each page of a command has.
const OF_COMMAND: &str = "\
Exit codes:
  0 if it is done; vswitchctl(1) has the others

See also:
  vswitchctl(1), vswitchd(8)";

/// Variable by which the scripts ask this program what could stand at the cursor.
pub const COMPLETE: &str = "VSWITCHCTL_COMPLETE";

/// bash takes what stands behind `=` and `:` for a word of its own: the words are taken from the line instead, and of what is
/// offered only the part behind the last of these is given back.
const BASH: &str = r#"_vswitchctl() {
    local line="${COMP_LINE:0:COMP_POINT}" words word IFS
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word="${words[${#words[@]} - 1]}"
    IFS=$'\013'
    COMPREPLY=($(VSWITCHCTL_COMPLETE=bash _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        vswitchctl -- "${words[@]}" 2> /dev/null))
    if [[ $word == *[=:]* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[=:]}"}"}")
    fi
    if [[ ${COMPREPLY-} =~ [=/:]$ ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -F _vswitchctl -o bashdefault -o nosort vswitchctl
"#;

/// To be sourced, or to lie as `_vswitchctl` in a folder of `fpath`.
const ZSH: &str = r#"#compdef vswitchctl
_vswitchctl() {
    local line
    local -a keys others
    for line in "${(@f)$(VSWITCHCTL_COMPLETE=zsh _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) \
        vswitchctl -- "${words[@]}" 2> /dev/null)}"; do
        # What goes on behind it: a key, a folder, a part of a name.
        if [[ ${line%%:*} == *[=/.] ]]; then
            keys+=("$line")
        elif [[ -n $line ]]; then
            others+=("$line")
        fi
    done
    (( $#keys )) && _describe -V keys keys -S ''
    (( $#others )) && _describe -V values others
}
if [[ $funcstack[1] == _vswitchctl ]]; then
    _vswitchctl "$@"
else
    compdef _vswitchctl vswitchctl
fi
"#;

const FISH: &str = r#"complete --keep-order --exclusive --command vswitchctl --arguments "(VSWITCHCTL_COMPLETE=fish vswitchctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
"#;

/// The completion script of a shell. Those of bash, zsh and fish ask this program at each TAB, which knows the names that there
/// are; the others know the words of the command line.
pub fn completions(shell: Shell) -> Vec<u8> {
    match shell {
        Shell::Bash => BASH.into(),
        Shell::Zsh => ZSH.into(),
        Shell::Fish => FISH.into(),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut Cli::command(), "vswitchctl", &mut script);
            script
        }
    }
}

/// The page, in roff, of the command that these words name; of the tool as a whole without any. None: there is no such
/// command.
pub fn page(words: &[String]) -> io::Result<Option<Vec<u8>>> {
    let tool = built();
    let mut command = &tool;
    for word in words {
        match command.find_subcommand(word) {
            Some(below) => command = below,
            None => return Ok(None),
        }
    }
    let mut page = Vec::new();
    render(command, &mut page)?;
    Ok(Some(page))
}

/// Writes the pages of the tool and of every command into a directory.
pub fn all_pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    write_with_those_below(&built(), dir)
}

/// With the names of pages filled in, and without the command `help`, which has none.
fn built() -> Command {
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    tool
}

fn write_with_those_below(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_with_those_below(below, dir)?;
    }
    // `fdb/show` of Open vSwitch is no folder.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let name = name.replace('/', "-");
    let mut page = Vec::new();
    render(command, &mut page)?;
    std::fs::write(dir.join(format!("{name}.1")), page)
}

/// One page. The examples stand in it as they are typed: `man` fills no line of them.
fn render(command: &Command, page: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("vswitch manual");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(page)?;
    }
    let text = command.get_after_long_help().or_else(|| command.get_after_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let is_tool = command.get_name() == "vswitchctl";
    let others = if is_tool { OF_TOOL } else { OF_COMMAND };
    sections(&format!("{text}\n\n{others}")).to_writer(page)
}
