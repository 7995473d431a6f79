//! Who may do what: the role of each client, by what the kernel tells of it, and the one each route needs, by its declaration.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tracing::Span;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::view::Role;
use vswitch_linux::Peer;

use super::audit::Audit;
use super::document::Known;
use super::error::Failure;
use crate::config::MayRun;

/// Whom the socket is for.
#[derive(Debug)]
pub(super) struct Gate {
    /// Whoever has the daemon's user may do what the daemon may.
    owner: u32,
    /// Group of the socket.
    admins: u32,
    /// Group that may only read.
    readers: Option<u32>,
    commands: MayRun,
}

impl Gate {
    /// `admins`: group of the socket's file; `readers`: group that may only read.
    pub fn new(admins: u32, readers: Option<u32>, commands: MayRun) -> Self {
        Self {
            owner: geteuid().as_raw(),
            admins,
            readers,
            commands,
        }
    }

    /// The role of a client; none: it has no business here.
    fn role(&self, peer: Option<&Peer>) -> Option<Role> {
        let Some(peer) = peer else {
            // The kernel does not tell who it is. Where the file alone decides who may connect it has decided.
            return self.readers.is_none().then_some(Role::Admin);
        };
        if peer.uid == 0 || peer.uid == self.owner {
            return Some(Role::Root);
        }
        match self.readers {
            // Whoever may write to the file is an administrator, whatever made the kernel let it do so.
            None => Some(Role::Admin),
            Some(_) if peer.is_in(self.admins) => Some(Role::Admin),
            Some(readers) => peer.is_in(readers).then_some(Role::ReadOnly),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    /// None: the kernel does not tell.
    pub peer: Option<Peer>,
    /// None: it may do nothing.
    pub role: Option<Role>,
    gate: Arc<Gate>,
}

impl Caller {
    /// The one that made this connection.
    pub fn of(stream: &UnixStream, gate: &Arc<Gate>) -> Self {
        Self::new(Peer::of(stream).ok(), gate)
    }

    fn new(peer: Option<Peer>, gate: &Arc<Gate>) -> Self {
        let role = gate.role(peer.as_ref());
        Self {
            peer,
            role,
            gate: gate.clone(),
        }
    }

    /// Its user, by name if that can be told. May ask a server for it: not for threads that must not wait.
    pub fn user(&self) -> String {
        let Some(peer) = &self.peer else {
            return "unknown".into();
        };
        match User::from_uid(Uid::from_raw(peer.uid)) {
            Ok(Some(user)) => user.name,
            _ => peer.uid.to_string(),
        }
    }

    /// Why it may have no commands run; none: it may.
    pub fn no_commands(&self) -> Option<String> {
        let may = match self.gate.commands {
            MayRun::Root => Role::Root,
            MayRun::Group => Role::Admin,
        };
        (self.role < Some(may)).then(|| match self.role {
            Some(role) => format!("the role {role} does not allow that"),
            None => "without a role nothing is allowed".into(),
        })
    }

    /// Refuses what needs a higher role. `object`: what was asked for.
    fn refusal(&self, needed: Role, object: String) -> ApiError {
        let user = self.user();
        let group = |gid: u32| match Group::from_gid(Gid::from_raw(gid)) {
            Ok(Some(group)) => group.name,
            _ => gid.to_string(),
        };
        let (admins, readers) = (self.gate.admins, self.gate.readers);
        let has = match (self.role, readers) {
            (Some(role @ Role::ReadOnly), Some(readers)) => {
                format!("has the role {role}, by the group {}", group(readers))
            }
            (Some(role), _) => format!("has the role {role}"),
            (None, _) => "is in no group that may connect".to_owned(),
        };
        let join = |gid| format!("`usermod -aG {} USER` and a new login", group(gid));
        let hint = match (needed, readers) {
            // Being in root's group is no way for an ordinary user.
            (Role::Admin, _) if admins != 0 => format!("run it as root, or join the administrators: {}", join(admins)),
            (Role::ReadOnly, Some(readers)) if readers != 0 => {
                format!("run it as root, or join those that may read: {}", join(readers))
            }
            _ => "run it as root".to_owned(),
        };
        ApiError::new(
            ErrorCode::NotPermitted,
            object,
            format!("it needs the role {needed}; user {user} {has}"),
        )
        .hint(hint)
    }
}

/// Lets a request go on if its client may make it: the only place where that is decided.
pub(super) async fn check_role(
    State(known): State<Arc<Known>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let path = request.extensions().get::<MatchedPath>();
    let needed = known.role(request.method(), path.map(MatchedPath::as_str));
    // Not there where no connection is, which no client can bring about.
    let Some(caller) = request.extensions().get::<Arc<Caller>>().cloned() else {
        return Err(ApiError::new(ErrorCode::NotPermitted, "request", "it can't be told who asks").into());
    };
    if caller.role < Some(needed) {
        let audit = Audit::of(&caller, &request);
        let object = format!("{} {}", request.method(), request.uri().path());
        // Names of users and groups may be asked for elsewhere.
        let span = Span::current();
        let refused = spawn_blocking(move || {
            let refusal = caller.refusal(needed, object);
            span.in_scope(|| audit.tell_refused(&refusal));
            refusal
        });
        let refusal = refused.await.unwrap_or_else(|error| {
            ApiError::new(
                ErrorCode::NotPermitted,
                "request",
                format!("it needs the role {needed}: {error}"),
            )
        });
        return Err(refusal.into());
    }
    if needed == Role::ReadOnly {
        return Ok(next.run(request).await);
    }
    let audit = Audit::of(&caller, &request);
    // Of what shows frames and what commands wrote there is no edit that tells of it.
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let response = next.run(request).await;
        let ok = response.status().is_success();
        let span = Span::current();
        spawn_blocking(move || span.in_scope(|| audit.tell_shown(ok)));
        return Ok(response);
    }
    request.extensions_mut().insert(audit);
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> Option<Peer> {
        Some(Peer {
            pid: None,
            uid,
            groups: groups.to_vec(),
        })
    }

    fn gate(readers: Option<u32>, commands: MayRun) -> Arc<Gate> {
        Arc::new(Gate {
            owner: 990,
            admins: 42,
            readers,
            commands,
        })
    }

    #[test]
    fn who_is_not_root_is_what_its_groups_are() {
        let gate = gate(Some(43), MayRun::Root);
        let role = |uid, groups: &[u32]| gate.role(peer(uid, groups).as_ref());
        assert_eq!(role(0, &[]), Some(Role::Root));
        assert_eq!(role(990, &[43]), Some(Role::Root));
        assert_eq!(role(1000, &[1000, 42]), Some(Role::Admin));
        assert_eq!(role(1000, &[43, 42]), Some(Role::Admin));
        assert_eq!(role(1000, &[1000, 43]), Some(Role::ReadOnly));
        assert_eq!(role(1000, &[1000, 0]), None);
        assert_eq!(gate.role(None), None);
    }

    #[test]
    fn without_readers_the_file_decides() {
        let gate = gate(None, MayRun::Root);
        assert_eq!(gate.role(peer(1000, &[]).as_ref()), Some(Role::Admin));
        assert_eq!(gate.role(None), Some(Role::Admin));
        assert_eq!(gate.role(peer(0, &[]).as_ref()), Some(Role::Root));
    }

    #[test]
    fn commands_are_for_root_unless_said_otherwise() {
        for (commands, uid, groups, may) in [
            (MayRun::Root, 0, [1], true),
            (MayRun::Root, 1000, [42], false),
            (MayRun::Group, 1000, [42], true),
            (MayRun::Group, 1000, [43], false),
            (MayRun::Group, 1000, [44], false),
        ] {
            let caller = Caller::new(peer(uid, &groups), &gate(Some(43), commands));
            assert_eq!(caller.no_commands().is_none(), may, "{commands:?} {uid} {groups:?}");
        }
    }

    #[test]
    fn a_refusal_names_role_group_and_the_next_step() {
        let gate = gate(Some(43), MayRun::Root);
        let told = |groups: &[u32], needed| {
            let caller = Caller::new(peer(4_000_000, groups), &gate);
            caller.refusal(needed, "DELETE /v1/ports/red".into()).to_string()
        };
        let group = |gid| {
            Group::from_gid(Gid::from_raw(gid))
                .unwrap()
                .map_or(gid.to_string(), |group| group.name)
        };
        assert_eq!(
            told(&[43], Role::Admin),
            format!(
                "DELETE /v1/ports/red: it needs the role admin; user 4000000 has the role read-only, by the group {}; run it as root, or \
                 join the administrators: `usermod -aG {} USER` and a new login",
                group(43),
                group(42)
            )
        );
        let nobody = told(&[44], Role::ReadOnly);
        assert!(nobody.contains("is in no group that may connect"), "{nobody}");
        assert!(nobody.contains(&format!("usermod -aG {} USER", group(43))), "{nobody}");
    }
}
