//! What not everybody may ask for who may change the lab: what runs with the daemon's rights.

use vswitch_api::{ApiError, Command, ErrorCode, Lab};

use super::text;

/// Refuses commands that are new or others than before, and files that these and whoever enters a namespace would read. `why`: why the one
/// who asks may not have them.
pub(super) fn refuse_commands(before: &Lab, after: &Lab, why: &str) -> Result<(), ApiError> {
    let refused = |object: String, cause: &str| {
        ApiError::new(ErrorCode::NotPermitted, object, format!("{cause}, and {why}")).hint(
            "have root do it, or let the socket's group have commands run by commands = \"group\" under [daemon] in vswitchd.toml",
        )
    };
    let runs_already = |command: &&Command| before.commands.iter().any(|old| is_same(old, command));
    if let Some(command) = after.commands.iter().find(|command| !runs_already(command)) {
        let object = format!("command \"{}\"", command.name);
        return Err(refused(object, "it would run with the daemon's rights"));
    }
    for namespace in &after.namespaces {
        let old = before.namespace(&namespace.name).map(|old| &old.files);
        let is_new = |(path, text): &(&_, &String)| old.and_then(|files| files.get(*path)) != Some(*text);
        if let Some((path, _)) = namespace.files.iter().find(is_new) {
            let object = format!("file {path} of {}", text::namespace(&namespace.name));
            return Err(refused(
                object,
                "it would be read in the place of the one in /etc, by root too",
            ));
        }
    }
    Ok(())
}

/// What is said of it runs nowhere.
fn is_same(old: &Command, new: &Command) -> bool {
    let plain = |command: &Command| Command {
        description: Default::default(),
        ..command.clone()
    };
    plain(old) == plain(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(toml: &str) -> Lab {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn what_runs_already_may_stay_and_go_but_be_no_other() {
        let ping = "[[commands]]\nname = \"ping\"\nnamespace = \"red\"\nargv = [\"ping\", \"10.0.0.2\"]\n";
        let red = "[[namespaces]]\nname = \"red\"\nfiles = { hosts = \"10.0.0.2 blue\" }\n";
        let before = lab(&format!("{ping}{red}"));
        let check = |toml: &str| refuse_commands(&before, &lab(toml), "so it is").map_err(|error| error.to_string());
        assert_eq!(check(&format!("{ping}{red}")), Ok(()));
        assert_eq!(check(&format!("{ping}description = \"towards blue\"\n")), Ok(()));
        assert_eq!(check(""), Ok(()));
        for (toml, object) in [
            (ping.replace("10.0.0.2", "10.0.0.3"), "command \"ping\""),
            (ping.replace("red", "blue"), "command \"ping\""),
            (
                format!("{ping}env = {{ LD_PRELOAD = \"/tmp/x.so\" }}\n"),
                "command \"ping\"",
            ),
            (format!("{ping}ready = {{ run = \"id\" }}\n"), "command \"ping\""),
            (red.replace("blue", "green"), "file hosts of namespace \"red\""),
            (
                red.replace("hosts", "\"ld.so.preload\""),
                "file ld.so.preload of namespace \"red\"",
            ),
            (
                red.replace("name = \"red\"", "name = \"green\""),
                "file hosts of namespace \"green\"",
            ),
        ] {
            let error = check(&toml).unwrap_err();
            assert!(
                error.starts_with(object) && error.contains("so it is"),
                "{toml}: {error}"
            );
        }
    }
}
