//! Traces: the steps that the datapath found, in words.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::timeout;
use vswitch_api::trace::{
    LiveOptions, LiveTrace, TraceOutcome, TraceReport, TraceRequest, TraceStage, TraceStep, WayView,
};
use vswitch_api::{ApiError, Mac, PortName};

use super::capture::KEEP_ALIVE;
use super::listen::Listening;
use super::{Control, View, text};
use crate::agents::LOOP_GUARD;
use vswitch_datapath::fdb::Learned;
use vswitch_datapath::frame::{MAX_FRAME, VNET_HDR_LEN};
use vswitch_datapath::trace::Stage;
use vswitch_datapath::{Direction, DropReason, FdbRecord, PortId, PortRef, SwitchId};
use vswitch_linux::{KernelError, WayOut};

impl Control {
    /// What the switch would do with a frame that came in from a port now. Nothing is changed by it.
    ///
    /// # Errors
    /// NotFound. Conflict: the port is missing. Invalid: the frame is not in hexadecimal, or too long.
    pub async fn trace(&self, name: &PortName, request: &TraceRequest) -> Result<TraceReport, ApiError> {
        let frame = from_hex(&request.frame).map_err(|cause| text::invalid("frame", cause))?;
        let view = self.view();
        let id = view.live_id(name)?;
        let wire = [&[0; VNET_HDR_LEN][..], &frame].concat();
        let steps = view.datapath.trace(id, &wire).ok_or_else(|| text::no_port(name))?;
        Ok(report(&view, id.id, steps))
    }

    /// What the stack that has the interface of a port would do with a packet for an address.
    ///
    /// # Errors
    /// NotFound; the kernel refused to tell.
    pub async fn way(&self, name: &PortName, to: IpAddr) -> Result<WayView, ApiError> {
        let view = self.view();
        let port = view.port_of_lab(name).ok_or_else(|| text::no_port(name))?;
        let failed = |error: KernelError| text::kernel(text::port(name), &error);
        // Some are the one end of a cable, whose other end has the stack.
        let live = view.ports.get(name).filter(|_| port.kind.has_stack());
        let Some((live, inside)) = live.and_then(|live| Some((live, live.inside?))) else {
            return Ok(WayView::Unknown);
        };
        let Some(netns) = view.netns_now(port, live).await.map_err(failed)? else {
            return Ok(WayView::Unknown);
        };
        let nl = netns.netlink().await.map_err(failed)?;
        let via = match nl.way_to(to).await.map_err(failed)? {
            WayOut::None => return Ok(WayView::NoRoute),
            WayOut::Local => return Ok(WayView::Own),
            WayOut::Through { index, .. } if index != inside => {
                let links = nl.links().await.map_err(failed)?;
                let dev = links.into_iter().find(|link| link.index == index);
                let dev = dev.map_or_else(|| format!("interface {index}"), |link| link.name);
                return Ok(WayView::Elsewhere { dev });
            }
            WayOut::Through { via, .. } => via,
        };
        let next_hop = via.unwrap_or(to);
        let mut neighbours = nl.neighbours().await.map_err(failed)?.into_iter();
        let known = neighbours.find(|known| known.index == inside && known.ip == next_hop);
        let state = known.as_ref().map(|known| known.state.clone());
        // What could not be resolved may still have the address of before.
        let known = known.filter(|known| !matches!(&*known.state, "failed" | "incomplete"));
        Ok(WayView::Here {
            next_hop,
            mac: known.and_then(|known| known.mac),
            state,
        })
    }

    /// Traces the frames that come in from a port, as they come.
    ///
    /// # Errors
    /// NotFound. Conflict: the port is missing. Invalid: the filter is no program.
    pub async fn trace_live(self: Arc<Self>, name: &PortName, options: LiveOptions) -> Result<Live, ApiError> {
        let names = std::slice::from_ref(name);
        let listening = self.listen(names, (true, false), options.filter.as_deref()).await?;
        let port = listening.port(0).ok_or_else(|| text::no_port(name))?;
        Ok(Live {
            control: self,
            listening,
            port,
            left: options.count.unwrap_or(u64::MAX),
        })
    }
}

/// Traces of real frames. They end when this is dropped, or with the port.
pub struct Live {
    control: Arc<Control>,
    listening: Listening,
    port: PortRef,
    left: u64,
}

impl Live {
    /// The next frame and its way; none: there are no more. `Some(None)`: none came for a while, and a client that went
    /// away would be noticed by a sign of life.
    pub async fn next(&mut self) -> Option<Option<LiveTrace>> {
        if self.left == 0 {
            return None;
        }
        loop {
            let closed = self.listening.acknowledge();
            if let Some(seen) = self.listening.take() {
                let inner = self.control.view();
                let steps = self.listening.datapath.trace(self.port, &seen.wire)?;
                self.left -= 1;
                return Some(Some(LiveTrace {
                    time_ns: seen.time_ns,
                    frame: to_hex(seen.wire.get(VNET_HDR_LEN..).unwrap_or_default()),
                    lost_before: seen.lost_before,
                    report: report(&inner, self.port.id, steps),
                }));
            }
            if closed {
                return None;
            }
            match timeout(KEEP_ALIVE, self.listening.readable()).await {
                // It can fail only when the runtime ends.
                Ok(there) => there.then_some(())?,
                Err(_) => return Some(None),
            }
        }
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut digits = Vec::new();
    for letter in text.chars().filter(|letter| !letter.is_whitespace() && *letter != ':') {
        let digit = letter.to_digit(16);
        digits.push(digit.ok_or_else(|| format!("{letter:?} is no hexadecimal digit"))? as u8);
        if digits.len() > 2 * MAX_FRAME {
            return Err(format!("it is longer than {MAX_FRAME} bytes"));
        }
    }
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err("it has half a byte at its end".to_owned());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('?');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Puts steps into words.
struct Words<'a> {
    view: &'a View,
    names: BTreeMap<u16, &'a PortName>,
    ingress: PortId,
}

fn report(view: &View, ingress: PortId, steps: Vec<Stage>) -> TraceReport {
    let names = view.ports.iter().filter_map(|(name, live)| Some((live.id?.id.0, name)));
    let words = Words {
        view,
        names: names.collect(),
        ingress,
    };
    let mut report = TraceReport {
        outcome: TraceOutcome::Dropped,
        reason: None,
        ports: Vec::new(),
        steps: steps.iter().map(|step| words.step(step)).collect(),
    };
    let mut flooded = false;
    for step in &steps {
        match step {
            Stage::Ingress { dropped, .. }
            | Stage::Admit { dropped, .. }
            | Stage::Vlan { dropped, .. }
            | Stage::Police { dropped }
            | Stage::Rules { dropped }
            | Stage::Punt { dropped, .. }
            | Stage::Learn { dropped, .. } => report.reason = word(*dropped),
            Stage::LookUp { to, dropped, .. } => {
                report.reason = word(*dropped);
                flooded = to.is_none();
            }
            Stage::Egress {
                port,
                copy: false,
                dropped,
                ..
            } => match dropped {
                Some(_) => report.reason = word(*dropped),
                None => report.ports.extend(words.name(*port)),
            },
            Stage::Storm { dropped } => report.reason = word(*dropped),
            Stage::Impair {
                dropped: Some(reason), ..
            } => report.reason = word(Some(*reason)),
            Stage::Impair { dropped: None, .. } | Stage::Mirror { .. } | Stage::Egress { copy: true, .. } => {}
        }
    }
    if !report.ports.is_empty() || (flooded && report.reason.is_none()) {
        report.reason = None;
        report.outcome = if flooded {
            TraceOutcome::Flooded
        } else {
            TraceOutcome::Forwarded
        };
    }
    report
}

fn word(reason: Option<DropReason>) -> Option<String> {
    reason.map(|reason| reason.as_str().to_owned())
}

impl Words<'_> {
    fn name(&self, id: PortId) -> Option<PortName> {
        self.names.get(&id.0).map(|name| PortName::clone(name))
    }

    fn named(&self, id: PortId) -> String {
        self.names
            .get(&id.0)
            .map_or_else(|| "a port that is gone".to_owned(), |name| name.to_string())
    }

    fn switch(&self, id: SwitchId) -> String {
        let mut switches = self.view.switches.iter();
        switches
            .find(|(_, other)| **other == id)
            .map_or_else(String::new, |(name, _)| format!(" of switch {name}"))
    }

    fn step(&self, step: &Stage) -> TraceStep {
        let make = |stage, port: Option<PortId>, dropped: Option<DropReason>, detail: String| TraceStep {
            stage,
            port: port.and_then(|port| self.name(port)),
            dropped: word(dropped),
            detail: match dropped {
                Some(reason) if detail.is_empty() => explain(reason).to_owned(),
                Some(reason) => format!("{detail}: {}", explain(reason)),
                None => detail,
            },
        };
        match step {
            Stage::Ingress { switch, dropped } => {
                let detail = format!(
                    "comes in from port {}{}",
                    self.named(self.ingress),
                    self.switch(*switch)
                );
                make(TraceStage::Ingress, Some(self.ingress), *dropped, detail)
            }
            Stage::Impair {
                port,
                direction,
                dropped,
            } => {
                let detail = self.impaired(*port, *direction);
                make(TraceStage::Impair, Some(*port), *dropped, detail)
            }
            Stage::Police { dropped } => make(TraceStage::Police, None, *dropped, self.policed(*dropped)),
            Stage::Storm { dropped } => make(TraceStage::Storm, None, *dropped, self.stormed(*dropped)),
            Stage::Admit { len, dropped } => make(TraceStage::Admit, None, *dropped, format!("{len} bytes")),
            Stage::Vlan { id: 0, dropped } => make(TraceStage::Vlan, None, *dropped, "is in no VLAN".to_owned()),
            Stage::Vlan { id, dropped } => make(TraceStage::Vlan, None, *dropped, format!("is in VLAN {id}")),
            Stage::Rules { dropped } => {
                let detail = match dropped {
                    Some(_) => String::new(),
                    None => "passes the pinned addresses and rules of the port".to_owned(),
                };
                make(TraceStage::Rules, None, *dropped, detail)
            }
            Stage::Punt { agent, dropped } => {
                let detail = match dropped {
                    Some(_) => String::new(),
                    None if *agent != LOOP_GUARD => "an agent of the switch gets a copy".to_owned(),
                    None => "is a probe of another switch's loop guard, and its source is not learned".to_owned(),
                };
                make(TraceStage::Punt, None, *dropped, detail)
            }
            Stage::Learn {
                mac,
                learned,
                known,
                dropped,
            } => make(TraceStage::Learn, None, *dropped, self.learned(*mac, *learned, *known)),
            Stage::LookUp {
                mac,
                known,
                to,
                dropped,
            } => make(TraceStage::LookUp, None, *dropped, self.looked_up(*mac, *known, *to)),
            Stage::Mirror { to } => make(
                TraceStage::Mirror,
                Some(*to),
                None,
                format!("a mirror copies it to {}", self.named(*to)),
            ),
            Stage::Egress {
                port,
                copy,
                segments,
                cut,
                dropped,
            } => {
                let detail = match (dropped, cut) {
                    (Some(_), _) => String::new(),
                    (None, true) => format!("goes out cut into {segments} frames, as the port takes no offloads"),
                    (None, false) if *segments > 1 => format!("goes out as it is, {segments} frames in one"),
                    (None, false) => "goes out as it is".to_owned(),
                };
                let detail = if *copy { format!("the copy {detail}") } else { detail };
                make(TraceStage::Egress, Some(*port), *dropped, detail)
            }
        }
    }

    fn lab_port(&self, id: PortId) -> Option<&vswitch_api::Port> {
        self.view.port_of_lab(&self.name(id)?)
    }

    fn impaired(&self, id: PortId, direction: Direction) -> String {
        let impair = self.lab_port(id).map(|port| &port.impair);
        let (way, settings) = match direction {
            Direction::In => ("in", impair.and_then(|impair| impair.inward.as_ref())),
            Direction::Out => ("out", impair.and_then(|impair| impair.outward.as_ref())),
        };
        let settings = settings.map_or_else(String::new, ToString::to_string);
        format!("is impaired on its way {way}, by chance and by what waits: {settings}")
    }

    fn policed(&self, dropped: Option<DropReason>) -> String {
        let limit = self.lab_port(self.ingress).and_then(|port| port.police);
        let limit = limit.map_or_else(String::new, |limit| limit.to_string());
        match dropped {
            Some(_) => format!("the policer ({limit})"),
            None => format!("is within the rate of the policer now ({limit})"),
        }
    }

    fn stormed(&self, dropped: Option<DropReason>) -> String {
        match dropped {
            Some(DropReason::LoopGuard) => "the loop guard holds floods to look for a loop".to_owned(),
            Some(_) => "storm control".to_owned(),
            None => "is within the rate of storm control now".to_owned(),
        }
    }

    fn learned(&self, mac: Mac, learned: Option<Learned>, known: Option<FdbRecord>) -> String {
        let Some(learned) = learned else {
            return format!("{mac} is not learned, as the port does not learn");
        };
        match (learned, known) {
            (Learned::Limited, _) => {
                format!("{mac} would not be learned: the port or the VLAN has as many stations as it may")
            }
            (Learned::New, _) => format!("{mac} is new, and would be learned on {}", self.named(self.ingress)),
            (Learned::Moved(from), _) => {
                format!(
                    "{mac} was on {}, and would move to {}",
                    self.named(from),
                    self.named(self.ingress)
                )
            }
            (Learned::Full, _) => format!("{mac} is new, and would not be learned: the FDB is full"),
            (
                Learned::Known,
                Some(FdbRecord {
                    port, age_secs: None, ..
                }),
            ) => {
                format!("{mac} is set by hand on {}, and stays there", self.named(port))
            }
            (Learned::Known, Some(record)) => format!("{mac} is known here{}", seen(record)),
            (Learned::Known, None) => format!("{mac} is known here"),
        }
    }

    fn looked_up(&self, mac: Mac, known: Option<FdbRecord>, to: Option<PortId>) -> String {
        match (to, known) {
            (None, _) if mac == Mac::BROADCAST => "broadcast: flooded to all other ports".to_owned(),
            (None, _) if mac.is_multicast() => format!("{mac} is a group: flooded to all other ports"),
            (None, None) => format!("{mac} is unknown: flooded to all other ports"),
            (None, Some(record)) => format!(
                "{mac} is behind {}, which is down or a mirror's: flooded to all other ports",
                self.named(record.port)
            ),
            (Some(port), Some(record)) => format!("{mac} is behind {}{}", self.named(port), seen(record)),
            (Some(port), None) => format!("{mac} is behind {}", self.named(port)),
        }
    }
}

fn seen(record: FdbRecord) -> String {
    match record.age_secs {
        None => ", set by hand".to_owned(),
        Some(age) => format!(", last seen {age} s ago"),
    }
}

/// What a reason means for the one who asks.
fn explain(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Malformed => "its virtio-net header does not fit it",
        DropReason::Runt => "it is shorter than an Ethernet header",
        DropReason::Oversize => "it is longer than the MTU of the port allows",
        DropReason::PortDown => "the port is set down",
        DropReason::MulticastSource => "its source is a group address, which no station has",
        DropReason::ZeroSource => "its source is all zeros, which no station has",
        DropReason::ReservedMulticast => {
            "a bridge does not forward 01:80:c2:00:00:0x (`set switch --reserved-multicast` lets it)"
        }
        DropReason::VlanTagged => "the port takes untagged frames only",
        DropReason::VlanUntagged => "the port takes tagged frames only, or has no native VLAN",
        DropReason::VlanFiltered => "the port is not in this VLAN",
        DropReason::PinMac => {
            "its source MAC address, or the one that it asks DHCP for, is not one that is pinned to the port"
        }
        DropReason::PinIp => "its source IP address is not one that is pinned to the port",
        DropReason::PinArp => "it is ARP with a sender that is not pinned to the port",
        DropReason::PinNd => "it is neighbour discovery for an address that is not pinned to the port",
        DropReason::PinRouter => {
            "it is a router advertisement, a redirect or an answer of a DHCP server, which the pinned port has no permission for (`--allow-ra on`)"
        }
        DropReason::UnreadableIn | DropReason::UnreadableOut => {
            "it can't be read as far as the rules of the port look: too many tags or extension headers, or broken ones"
        }
        DropReason::TinyFragmentIn | DropReason::TinyFragmentOut => {
            "it is a fragment by which rules can't see the header behind IP (RFC 1858)"
        }
        DropReason::AclIn | DropReason::AclOut => "a rule of the port denies it (`vswitchctl acl show` lists them)",
        DropReason::AclPolicedIn | DropReason::AclPolicedOut => "it is above the rate of a rule of the port",
        DropReason::Locked => "the port is locked, and the station is not known to be behind it",
        DropReason::MacLimit => "frames from stations beyond the limit are dropped",
        DropReason::Isolated => "the two ports are isolated from each other",
        DropReason::LoopProbe => "it is a probe of the loop guard",
        DropReason::LoopGuard => "the loop guard holds floods for a moment, to look for a loop",
        DropReason::Punted => "an agent of the switch takes it",
        DropReason::Policed => "it is above the rate of the port",
        DropReason::Storm => "it is above the rate of the storm control of the port",
        DropReason::ImpairLossIn | DropReason::ImpairLossOut => "impairment loses it",
        DropReason::ImpairQueueIn | DropReason::ImpairQueueOut => "too many frames wait in the impairment of the port",
        DropReason::ImpairFlushedIn | DropReason::ImpairFlushedOut => "the impairment that held it was taken away",
        DropReason::SamePort => "that is where it comes from",
        DropReason::MirrorPort => "the port is the destination of a mirror, which carries copies only",
        DropReason::Overrun => "the daemon was too slow",
        DropReason::Mtu => "it is longer than the MTU of the port",
        DropReason::QueueFull => "the queue of the port is full",
        DropReason::LinkDown => "the interface is down or gone",
        DropReason::Rejected => "it can't be made to fit the port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hexadecimal_is_taken_in_any_common_form() {
        assert_eq!(from_hex("02:0a ff\n1"), Err("it has half a byte at its end".to_owned()));
        assert_eq!(from_hex("02:0A ff\n10"), Ok(vec![2, 10, 255, 16]));
        assert!(from_hex("0x02").unwrap_err().contains('x'));
        assert!(from_hex(&"00".repeat(MAX_FRAME + 1)).unwrap_err().contains("longer"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Ok(bytes));
        }
    }
}
