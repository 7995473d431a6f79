//! The sample configuration, and errors of the file.

use super::*;

const SAMPLE: &str = include_str!("../../../configs/vswitchd.toml");

fn error(text: &str) -> String {
    Config::parse(Path::new("/x.toml"), text).unwrap_err().to_string()
}

/// The sample with the `# ` before each `key = value` taken away.
fn uncommented() -> String {
    let is_setting = |line: &&str| {
        line.strip_prefix("# ")
            .is_some_and(|rest| rest.split(' ').nth(1) == Some("="))
    };
    SAMPLE
        .lines()
        .map(|line| if is_setting(&line) { &line[2..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_sample_as_shipped_changes_nothing() {
    assert_eq!(Config::parse(Path::new("sample"), SAMPLE), Ok(Config::default()));
}

#[test]
fn the_sample_names_every_key_with_its_default() {
    let mut default = Config::default();
    default.daemon.socket = Some(default.daemon.socket());
    // Two without a default have an example.
    default.metrics.listen = Some(([127, 0, 0, 1], 9746).into());
    let text = uncommented();
    assert_eq!(Config::parse(Path::new("sample"), &text), Ok(default.clone()), "{text}");
    // Equal values could still come from a default, so compare the keys too.
    let sample: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(sample, toml::Table::try_from(default).unwrap());
}

/// serde takes an array for a struct.
#[test]
fn a_list_is_no_table() {
    let text = error("log = [\"debug\"]\n");
    assert!(text.contains("expected an object"), "{text}");
}

#[test]
fn errors_name_file_line_and_key() {
    assert_eq!(
        error("[daemon]\nrundir = \"/x\"\n").split(',').next().unwrap(),
        "/x.toml:2: key \"rundir\": unknown field `rundir`"
    );
    let text = error("[datapath]\n\nworkers = \"two\"\n");
    assert!(text.starts_with("/x.toml:3: key \"workers\": invalid type"), "{text}");
    let text = error("[daemon]\nsocket_mode = \"0999\"\n");
    assert!(
        text.starts_with("/x.toml:2: key \"socket_mode\": \"0999\" is not a file mode"),
        "{text}"
    );
    let text = error("[log]\nlevel = \"inof\"\n");
    assert!(text.starts_with("/x.toml:2: key \"level\": \"inof\""), "{text}");
    let text = error("[daemon]\nrun_dir = \"x\"\n");
    assert!(
        text.starts_with("/x.toml:2: key \"run_dir\": \"x\" is not an absolute path"),
        "{text}"
    );
    let text = error("[daemon]\nsocket_mode = \"0666\"\nread_group = \"staff\"\n");
    assert!(
        text.starts_with("/x.toml:3: key \"read_group\": socket_mode lets"),
        "{text}"
    );
    let text = error("[datapath]\nworkers = 257\n");
    assert!(
        text.starts_with("/x.toml:2: key \"workers\": 257 is too many"),
        "{text}"
    );
    let text = error("[datapath]\nspin_us = 1000001\n");
    assert!(
        text.starts_with("/x.toml:2: key \"spin_us\": 1000001 is too long"),
        "{text}"
    );
    for text in ["[deamon]\n", "[daemon\n", "x", "[log]\nformat = \"xml\"\n", "\0"] {
        let text = error(text);
        assert!(text.starts_with("/x.toml:") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn the_command_line_wins() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "[daemon]\nrun_dir = \"/a\"\n[log]\nlevel = \"warn\"\n").unwrap();
    let mut args = Args {
        config: Some(file.path().into()),
        run_dir: Some("/b".into()),
        ..Args::default()
    };
    let config = Config::load(&args).unwrap();
    assert_eq!(
        (config.daemon.socket(), config.log.level.as_str()),
        ("/b/control.sock".into(), "warn")
    );
    args.log_level = Some("loud".into());
    let text = Config::load(&args).unwrap_err().to_string();
    assert!(text.starts_with("option --log-level: \"loud\""), "{text}");
}

#[test]
fn a_named_file_must_be_there() {
    let args = Args {
        config: Some("/nowhere/vswitchd.toml".into()),
        ..Args::default()
    };
    let text = Config::load(&args).unwrap_err().to_string();
    assert!(text.starts_with("/nowhere/vswitchd.toml: No such file"), "{text}");
}

proptest::proptest! {
    /// Whatever is in the file, the error is one line that starts with its name.
    #[test]
    fn any_file_is_taken_or_refused_in_one_line(
        text in "(\\[(daemon|log|datapath|x)\\]?\n)?((socket|level|workers|[a-z=\"'\\[]{0,4}) ?=? ?(\"[^\"]{0,8}\"|[0-9-]{0,20}|.{0,8})\n?){0,3}"
    ) {
        if let Err(error) = Config::parse(Path::new("/x.toml"), &text) {
            let error = error.to_string();
            proptest::prop_assert!(error.starts_with("/x.toml") && !error.contains('\n'), "{}", error);
        }
    }
}
