//! The routes of the API with their types. What they do is told where the API is: `docs/api` and the daemon's `/v1/openapi.json`.
//!
//! What changes something takes [`ChangeOptions`] (`ChangeOptions::default()` for none) and says what was done.

use ipnet::IpNet;
use serde::Serialize;
use vswitch_api::capture::CaptureOptions;
use vswitch_api::event::EventSelect;
use vswitch_api::request::{
    AddressAdd, AddressSelect, ChangeOptions, FdbAdd, FdbSelect, LogLevel, LogOptions, NamespaceAdd, RouteSelect,
    SwitchFilter,
};
use vswitch_api::trace::{LiveOptions, LiveTrace, TraceReport, TraceRequest};
use vswitch_api::view::{
    AddressView, Changes, FdbEntry, NamespaceSummary, NamespaceView, PortAclView, PortView, Status, SwitchView,
};
use vswitch_api::{
    Cable, CableView, Command, CommandName, IfAddr, Lab, Link, Mirror, MirrorName, NsName, Port, PortName, ProcessView,
    Route, Switch, SwitchName, link, mirror, strict,
};

use crate::body::Body;
use crate::capture::Capture;
use crate::error::Error;
use crate::events::Events;
use crate::http::{Client, NO_BODY, Tag, with_options, with_query};
use crate::lines::Lines;
use hyper::Method;

/// The daemon.
impl Client {
    /// What the daemon is and how it is.
    pub async fn status(&self) -> Result<Status, Error> {
        self.get("/v1/status").await
    }

    /// How much the daemon logs.
    pub async fn log_level(&self) -> Result<LogLevel, Error> {
        self.get("/v1/log").await
    }

    /// What happens from now on, or since an event that was seen.
    pub async fn events(&self, wanted: &EventSelect) -> Result<Events, Error> {
        Ok(Events::new(self.open(&with_query("/v1/events", wanted)?).await?))
    }

    /// Removes all that vswitch made.
    pub async fn reset(&self, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/reset", options, NO_BODY).await
    }

    /// Has the daemon begin anew; [`Status::run`] tells when it has.
    pub async fn restart(&self, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/restart", options, NO_BODY).await
    }

    /// The lab: all that is wanted. What a newer daemon has and this version does not know is an error, since it would be lost if the lab
    /// were written back.
    pub async fn lab(&self) -> Result<Lab, Error> {
        Ok(self.lab_tagged().await?.0)
    }

    /// The same with its tag.
    pub async fn lab_tagged(&self) -> Result<(Lab, Option<Tag>), Error> {
        let (lab, tag) = self.get_tagged("/v1/lab").await?;
        let lab = strict::from_value(lab).map_err(|error| {
            let cause = format!("this version does not know all of the lab and would lose it: {error}");
            Error::foreign("/v1/lab", cause)
        })?;
        Ok((lab, tag))
    }

    /// The lab as far as this version knows it, to be looked at.
    pub async fn known_lab(&self) -> Result<Lab, Error> {
        self.get("/v1/lab").await
    }

    /// Makes this all that there is, on the condition that the lab still has this tag, if one is given.
    pub async fn replace_lab(&self, lab: &Lab, options: ChangeOptions, tag: Option<&Tag>) -> Result<Changes, Error> {
        self.send_if(Method::PUT, &with_options("/v1/lab", options)?, tag, Some(lab))
            .await
    }
}

/// Switches and what they know.
impl Client {
    /// All switches.
    pub async fn switches(&self) -> Result<Vec<SwitchView>, Error> {
        self.get("/v1/switches").await
    }

    /// A switch.
    pub async fn switch(&self, name: &SwitchName) -> Result<SwitchView, Error> {
        self.get(&switch_path(name)).await
    }

    /// A switch with its tag.
    pub async fn switch_tagged(&self, name: &SwitchName) -> Result<(SwitchView, Option<Tag>), Error> {
        self.get_tagged(&switch_path(name)).await
    }

    /// Adds a switch.
    pub async fn add_switch(&self, switch: &Switch, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/switches", options, Some(switch)).await
    }

    /// Changes a switch by a merge patch (RFC 7396), on the condition that it still has this tag, if one is given.
    pub async fn patch_switch(
        &self,
        name: &SwitchName,
        patch: &impl Serialize,
        options: ChangeOptions,
        tag: Option<&Tag>,
    ) -> Result<Changes, Error> {
        self.patch(&switch_path(name), patch, options, tag).await
    }

    /// Removes a switch and its ports.
    pub async fn remove_switch(&self, name: &SwitchName, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::DELETE, &switch_path(name), options, NO_BODY).await
    }

    /// The stations that a switch knows.
    pub async fn fdb(&self, switch: &SwitchName) -> Result<Vec<FdbEntry>, Error> {
        self.get(&fdb_path(switch)).await
    }

    /// Puts a station behind a port, whatever is learned.
    pub async fn add_station(
        &self,
        switch: &SwitchName,
        station: &FdbAdd,
        options: ChangeOptions,
    ) -> Result<Changes, Error> {
        self.change(Method::PUT, &fdb_path(switch), options, Some(station))
            .await
    }

    /// Has a switch forget stations.
    pub async fn forget_stations(
        &self,
        switch: &SwitchName,
        which: &FdbSelect,
        options: ChangeOptions,
    ) -> Result<Changes, Error> {
        let path = with_query(&fdb_path(switch), which)?;
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }

    /// All links between switches.
    pub async fn links(&self) -> Result<Vec<link::LinkView>, Error> {
        self.get("/v1/links").await
    }

    /// The link that has this port.
    pub async fn link(&self, port: &PortName) -> Result<link::LinkView, Error> {
        self.get(&format!("/v1/links/{port}")).await
    }

    /// Adds a link between two switches.
    pub async fn add_link(&self, link: &Link, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/links", options, Some(link)).await
    }

    /// Removes the link that has this port.
    pub async fn remove_link(&self, port: &PortName, options: ChangeOptions) -> Result<Changes, Error> {
        let path = format!("/v1/links/{port}");
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }
}

/// Ports.
impl Client {
    /// All ports.
    pub async fn ports(&self) -> Result<Vec<PortView>, Error> {
        self.ports_of(&SwitchFilter::default()).await
    }

    /// The ports of a switch.
    pub async fn ports_of(&self, which: &SwitchFilter) -> Result<Vec<PortView>, Error> {
        self.get(&with_query("/v1/ports", which)?).await
    }

    /// A port.
    pub async fn port(&self, name: &PortName) -> Result<PortView, Error> {
        self.get(&port_path(name)).await
    }

    /// A port with its tag.
    pub async fn port_tagged(&self, name: &PortName) -> Result<(PortView, Option<Tag>), Error> {
        self.get_tagged(&port_path(name)).await
    }

    /// Adds a port, with its namespace if that is not there.
    pub async fn add_port(&self, port: &Port, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/ports", options, Some(port)).await
    }

    /// Changes a port by a merge patch (RFC 7396), on the condition that it still has this tag, if one is given.
    pub async fn patch_port(
        &self,
        name: &PortName,
        patch: &impl Serialize,
        options: ChangeOptions,
        tag: Option<&Tag>,
    ) -> Result<Changes, Error> {
        self.patch(&port_path(name), patch, options, tag).await
    }

    /// Removes a port.
    pub async fn remove_port(&self, name: &PortName, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::DELETE, &port_path(name), options, NO_BODY).await
    }

    /// The access control lists of a port, with what they matched.
    pub async fn acl(&self, port: &PortName) -> Result<PortAclView, Error> {
        self.get(&format!("/v1/ports/{port}/acl")).await
    }

    /// The addresses of ports.
    pub async fn addresses(&self, which: &SwitchFilter) -> Result<Vec<AddressView>, Error> {
        self.get(&with_query("/v1/addresses", which)?).await
    }

    /// Gives the interface of a port an address.
    pub async fn add_address(
        &self,
        port: &PortName,
        address: IfAddr,
        options: ChangeOptions,
    ) -> Result<Changes, Error> {
        let path = format!("/v1/ports/{port}/addresses");
        self.change(Method::POST, &path, options, Some(&AddressAdd { address }))
            .await
    }

    /// Takes an address from the interface of a port, or all.
    pub async fn remove_addresses(
        &self,
        port: &PortName,
        which: &AddressSelect,
        options: ChangeOptions,
    ) -> Result<Changes, Error> {
        let path = with_query(&format!("/v1/ports/{port}/addresses"), which)?;
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }

    /// Adds a route to the namespace of a port.
    pub async fn add_route(&self, port: &PortName, route: &Route, options: ChangeOptions) -> Result<Changes, Error> {
        let path = format!("/v1/ports/{port}/routes");
        self.change(Method::POST, &path, options, Some(route)).await
    }

    /// Takes a route away.
    pub async fn remove_route(&self, port: &PortName, to: IpNet, options: ChangeOptions) -> Result<Changes, Error> {
        let path = with_query(&format!("/v1/ports/{port}/routes"), &RouteSelect { to })?;
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }

    /// The frames of a port, as they come by.
    pub async fn capture(&self, port: &PortName, options: &CaptureOptions) -> Result<Capture, Error> {
        let path = with_query(&format!("/v1/ports/{port}/capture"), options)?;
        Ok(Capture::new(self.clone(), self.open(&path).await?))
    }

    /// What the switch would do with a frame that came in at a port.
    pub async fn trace(&self, port: &PortName, frame: &TraceRequest) -> Result<TraceReport, Error> {
        self.send(Method::POST, &format!("/v1/ports/{port}/trace"), Some(frame))
            .await
    }

    /// What the switch does with the frames that come in at a port.
    pub async fn trace_live(&self, port: &PortName, options: &LiveOptions) -> Result<Lines<LiveTrace>, Error> {
        let path = with_query(&format!("/v1/ports/{port}/trace"), options)?;
        Ok(Lines::new(self.open(&path).await?))
    }

    /// All mirrors.
    pub async fn mirrors(&self) -> Result<Vec<mirror::MirrorView>, Error> {
        self.get("/v1/mirrors").await
    }

    /// A mirror.
    pub async fn mirror(&self, name: &MirrorName) -> Result<mirror::MirrorView, Error> {
        self.get(&format!("/v1/mirrors/{name}")).await
    }

    /// Adds a mirror.
    pub async fn add_mirror(&self, mirror: &Mirror, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/mirrors", options, Some(mirror)).await
    }

    /// Removes a mirror.
    pub async fn remove_mirror(&self, name: &MirrorName, options: ChangeOptions) -> Result<Changes, Error> {
        let path = format!("/v1/mirrors/{name}");
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }
}

/// Namespaces, and what is in them.
impl Client {
    /// All namespaces that have to do with the switch.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceSummary>, Error> {
        self.get("/v1/namespaces").await
    }

    /// A namespace.
    pub async fn namespace(&self, name: &NsName) -> Result<NamespaceView, Error> {
        self.get(&format!("/v1/namespaces/{name}")).await
    }

    /// Makes a namespace.
    pub async fn add_namespace(&self, name: NsName, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/namespaces", options, Some(&NamespaceAdd { name }))
            .await
    }

    /// Removes a namespace that vswitch made.
    pub async fn remove_namespace(&self, name: &NsName, options: ChangeOptions) -> Result<Changes, Error> {
        let path = format!("/v1/namespaces/{name}");
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }

    /// All cables between namespaces.
    pub async fn cables(&self) -> Result<Vec<CableView>, Error> {
        self.get("/v1/cables").await
    }

    /// Adds a cable between two namespaces.
    pub async fn add_cable(&self, cable: &Cable, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/cables", options, Some(cable)).await
    }

    /// Adds a command that runs in a namespace.
    pub async fn add_command(&self, command: &Command, options: ChangeOptions) -> Result<Changes, Error> {
        self.change(Method::POST, "/v1/commands", options, Some(command)).await
    }

    /// Removes a command.
    pub async fn remove_command(&self, name: &CommandName, options: ChangeOptions) -> Result<Changes, Error> {
        let path = format!("/v1/commands/{name}");
        self.change(Method::DELETE, &path, options, NO_BODY).await
    }

    /// The processes that the daemon looks after.
    pub async fn processes(&self) -> Result<Vec<ProcessView>, Error> {
        self.get("/v1/processes").await
    }

    /// One of them, by its name.
    pub async fn process(&self, name: &str) -> Result<ProcessView, Error> {
        self.get(&format!("/v1/processes/{name}")).await
    }

    /// What a process has written, and writes.
    pub async fn log(&self, process: &str, options: &LogOptions) -> Result<Body, Error> {
        self.open(&with_query(&format!("/v1/processes/{process}/log"), options)?)
            .await
    }
}

impl Client {
    /// Sends a request that changes something, with its options, and gives what was done.
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        options: ChangeOptions,
        body: Option<&impl Serialize>,
    ) -> Result<Changes, Error> {
        self.send(method, &with_options(path, options)?, body).await
    }

    async fn patch(
        &self,
        path: &str,
        patch: &impl Serialize,
        options: ChangeOptions,
        tag: Option<&Tag>,
    ) -> Result<Changes, Error> {
        self.send_if(Method::PATCH, &with_options(path, options)?, tag, Some(patch))
            .await
    }
}

fn switch_path(name: &SwitchName) -> String {
    format!("/v1/switches/{name}")
}

fn fdb_path(switch: &SwitchName) -> String {
    format!("/v1/switches/{switch}/fdb")
}

fn port_path(name: &PortName) -> String {
    format!("/v1/ports/{name}")
}
