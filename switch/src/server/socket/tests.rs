use super::*;
use crate::config::Mode;

fn config(dir: &Path) -> Daemon {
    Daemon {
        run_dir: dir.to_owned(),
        ..Daemon::default()
    }
}

#[tokio::test]
async fn the_socket_has_the_mode_asked_for_and_goes_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    for mode in [0o660, 0o600, 0o666] {
        let socket = ControlSocket::bind(&Daemon {
            socket_mode: Mode(mode),
            ..config(dir.path())
        })
        .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = ControlSocket::bind(&config(dir.path())).unwrap();
    let error = ControlSocket::bind(&config(dir.path())).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.cause.starts_with("another daemon listens"), "{error}");
    UnixStream::connect(&path).unwrap();
    // Whoever took the name meanwhile keeps it.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    drop(socket);
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_removed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/control.sock");
    let mut socket = ControlSocket::bind(&config(&dir.path().join("run"))).unwrap();
    assert!(socket.put_back().is_none());
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    socket.put_back().unwrap().unwrap();
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

/// Who connects between the two is neither refused nor forgotten.
#[tokio::test]
async fn the_daemon_that_comes_next_has_the_socket_that_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let path = config.socket();
    let (read, _write) = nix::unistd::pipe().unwrap();
    let mut left = vec![read];
    left.extend(ControlSocket::bind(&config).unwrap().leave());
    let _client = UnixStream::connect(&path).unwrap();
    let next = Daemon {
        socket_mode: Mode(0o600),
        ..config.clone()
    };
    let socket = ControlSocket::open(&next, &mut left).unwrap();
    assert_eq!(left.len(), 1, "the queue is still there");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    socket.listener.accept().await.unwrap();
    drop(socket);
    assert!(!path.exists());
    // One that is gone is made anew, and one that nobody would find is not left.
    let mut left = Vec::from_iter(ControlSocket::bind(&config).unwrap().leave());
    std::fs::remove_file(&path).unwrap();
    let socket = ControlSocket::open(&config, &mut left).unwrap();
    UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(left.is_empty() && socket.leave().is_none());
}

#[tokio::test]
async fn one_that_systemd_made_is_served_as_configured_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let config = Daemon {
        socket_mode: Mode(0o600),
        ..config(dir.path())
    };
    let path = config.socket();
    let listener = PassedListener::bind(&path).unwrap();
    assert!(is_at(&listener, &path) && !is_at(&listener, dir.path()));
    assert!(listens(&path) && !listens(dir.path()));
    ControlSocket::remove_left(&config);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut socket = ControlSocket::adopt(&config, listener.try_clone().unwrap(), None).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let client = UnixStream::connect(&path).unwrap();
    let mut accepted = socket.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut accepted, b"hello")
        .await
        .unwrap();
    assert!(socket.put_back().is_none());
    drop((client, socket));
    // The next daemon has it.
    UnixStream::connect(&path).unwrap();
    assert!(is_at(&listener, &path));
    // One whose file is gone is nobody's: the daemon makes its own, as it does when it is gone while it runs.
    std::fs::remove_file(&path).unwrap();
    assert!(!is_at(&listener, &path));
}

#[tokio::test]
async fn one_of_systemd_that_is_elsewhere_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut socket = ControlSocket::bind(&config(dir.path())).unwrap();
    let elsewhere = dir.path().join("elsewhere.sock");
    let listener = PassedListener::bind(&elsewhere).unwrap();
    socket.others.push(polled(listener).unwrap());
    std::fs::remove_file(&socket.path).unwrap();
    socket.put_back().unwrap().unwrap();
    for path in [elsewhere, socket.path.clone()] {
        let _client = UnixStream::connect(path).unwrap();
        socket.accept().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_in_the_way_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(
        ControlSocket::bind(&config(dir.path())).unwrap_err().code,
        ErrorCode::Conflict
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn what_can_not_be_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let group = Daemon {
        socket_group: "no-such-group".into(),
        ..config(dir.path())
    };
    assert!(ControlSocket::bind(&group).unwrap_err().cause.contains("groupadd"));
    let long = Daemon {
        socket: Some(dir.path().join("x".repeat(100))),
        ..config(dir.path())
    };
    assert!(ControlSocket::bind(&long).unwrap_err().cause.contains("at most 103"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
