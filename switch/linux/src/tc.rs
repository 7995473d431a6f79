//! Traffic control of interfaces that the switch reads: no queue before a TAP device's own, and nothing for the kernel's own stack.
//!
//! What arrives at an interface is led out of another one, a TAP device ([`Netlink::redirect_ingress`]), or dropped: AF_PACKET
//! sockets get a frame before tc ingress does, so a filter that drops all there leaves the frame to the switch alone. The filter is
//! a classic BPF program of one instruction (cls_bpf): unlike eBPF it needs no more than CAP_NET_ADMIN over the namespace, and to
//! drop it needs, unlike u32 and matchall, no action module (gact), which small kernels lack.

use futures::TryStreamExt;
use rtnetlink::packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Selector, TcU32SelectorFlags,
};

use super::error::KernelError;
use super::netlink::Netlink;

// linux/pkt_cls.h
const TCA_BPF_ACT: u16 = 1;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TC_ACT_SHOT: u32 = 2;
/// What a classic program returns for a frame that its filter is about.
const MATCHES: u32 = u32::MAX;
const MIN_EGRESS: u16 = 0xfff3;

/// Before every other filter.
pub(super) const PRIORITY: u16 = 1;
/// After one of ours.
const SECOND: u16 = 2;
/// "vs": tells our filter from others.
pub(super) const FILTER_HANDLE: u32 = 0x7673;

impl Netlink {
    /// Takes the queueing discipline from a TAP device that is still down: its queues to the daemon are all that a frame waits in.
    ///
    /// Else the kernel gives a multi-queue TAP one discipline for each of 256 possible queues as it comes up: megabytes of memory,
    /// and tens of milliseconds.
    ///
    /// # Errors
    /// ENODEV if the device is gone.
    pub async fn set_no_queue(&self, index: u32) -> Result<(), KernelError> {
        let mut message = TcMessage::with_index(index.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".into()));
        let add = RouteNetlinkMessage::NewQueueDiscipline(message);
        let added = self.request(add, NLM_F_CREATE | NLM_F_EXCL).await.map(drop);
        self.answer(
            format_args!("take the queueing discipline from interface {index}"),
            added,
        )
    }

    /// Drops at tc ingress all that arrives at an interface. Fine if it does so already.
    ///
    /// # Errors
    /// ENODEV if the interface is gone, ENOENT if the kernel lacks cls_bpf or the ingress qdisc.
    pub async fn drop_ingress(&self, index: u32) -> Result<(), KernelError> {
        self.add_drop(index, NLM_F_CREATE | NLM_F_EXCL).await
    }

    /// The same, also where a program of the fast path has taken the filter's place.
    ///
    /// # Errors
    /// Those of [`Netlink::drop_ingress`].
    pub async fn drop_ingress_again(&self, index: u32) -> Result<(), KernelError> {
        self.add_drop(index, NLM_F_CREATE).await
    }

    async fn add_drop(&self, index: u32, flags: u16) -> Result<(), KernelError> {
        let what = format!("drop what arrives at interface {index}");
        let index = index.cast_signed();
        let qdisc = self.handle.qdisc().add(index).ingress().execute().await;
        // An ingress or clsact qdisc that is there already serves as well.
        unless_exists(self.answer(&what, qdisc))?;
        self.add_filter(filter_message(index, TcHandle::MIN_INGRESS), drop_all(), flags, &what)
            .await
    }

    /// Leads out of the interface `to` all that arrives at another one, whatever a filter of ours did with it before.
    ///
    /// The kernel makes of a frame what `to` can send: it is cut up and its checksums are finished where that is needed.
    ///
    /// # Errors
    /// ENODEV if one of them is gone, ENOENT if the kernel lacks cls_bpf, the action mirred or the ingress qdisc.
    pub async fn redirect_ingress(&self, index: u32, to: u32) -> Result<(), KernelError> {
        let what = format!("lead what arrives at interface {index} to interface {to}");
        let index = index.cast_signed();
        let qdisc = self.handle.qdisc().add(index).ingress().execute().await;
        unless_exists(self.answer(&what, qdisc))?;
        let filter = filter_message(index, TcHandle::MIN_INGRESS);
        self.add_filter(filter, redirect_all(to), NLM_F_CREATE, &what).await
    }

    /// Drops all that the own stack sends by an interface. Fine if it does so already.
    ///
    /// # Errors
    /// ENODEV if the interface is gone, ENOENT if the kernel lacks cls_bpf or clsact.
    pub async fn drop_egress(&self, index: u32) -> Result<(), KernelError> {
        let what = format!("drop what is sent by interface {index}");
        self.add_clsact(index, &what).await?;
        let filter = filter_message(index.cast_signed(), MIN_EGRESS);
        self.add_filter(filter, drop_all(), NLM_F_CREATE | NLM_F_EXCL, &what)
            .await
    }

    /// Drops all that is sent by an interface but what was led there from another one, which is named, by
    /// [`Netlink::redirect_ingress`].
    ///
    /// # Errors
    /// ENODEV if the interface is gone, ENOENT if the kernel lacks cls_bpf, cls_u32 or clsact.
    pub async fn send_only_from(&self, index: u32, from: &str) -> Result<(), KernelError> {
        let what = format!("drop what is sent by interface {index} and is not from {from}");
        self.add_clsact(index, &what).await?;
        let mut pass = filter_message(index.cast_signed(), MIN_EGRESS);
        pass.header.handle = 0.into();
        pass.attributes = vec![
            TcAttribute::Kind(TcFilterU32::KIND.into()),
            TcAttribute::Options(pass_from(from)),
        ];
        let pass = self.request(RouteNetlinkMessage::NewTrafficFilter(pass), NLM_F_CREATE | NLM_F_EXCL);
        unless_exists(self.answer(&what, pass.await.map(drop)))?;
        let mut rest = filter_message(index.cast_signed(), MIN_EGRESS);
        rest.header.info = filter_info(SECOND);
        self.add_filter(rest, drop_all(), NLM_F_CREATE | NLM_F_EXCL, &what)
            .await
    }

    async fn add_clsact(&self, index: u32, what: &str) -> Result<(), KernelError> {
        let mut qdisc = TcMessage::with_index(index.cast_signed());
        qdisc.header.parent = TcHandle::CLSACT;
        qdisc.header.handle = TcHandle {
            minor: 0,
            ..TcHandle::CLSACT
        };
        qdisc.attributes.push(TcAttribute::Kind("clsact".into()));
        let add = RouteNetlinkMessage::NewQueueDiscipline(qdisc);
        let added = self.request(add, NLM_F_CREATE | NLM_F_EXCL).await.map(drop);
        unless_exists(self.answer(what, added))
    }

    async fn add_filter(
        &self,
        mut filter: TcMessage,
        options: Vec<TcOption>,
        flags: u16,
        what: &str,
    ) -> Result<(), KernelError> {
        filter.attributes.push(TcAttribute::Options(options));
        let add = RouteNetlinkMessage::NewTrafficFilter(filter);
        let added = self.request(add, flags).await.map(drop);
        unless_exists(self.answer(what, added))
    }

    /// Undoes [`Netlink::drop_ingress`] and [`Netlink::redirect_ingress`]: removes its filter, and the ingress qdisc unless others use it.
    ///
    /// # Errors
    /// [`KernelError::is_gone`] if the interface is gone. Fine if only the filter is.
    pub async fn undrop_ingress(&self, index: u32) -> Result<(), KernelError> {
        let what = format!("stop dropping what arrives at interface {index}");
        let index = index.cast_signed();
        let delete = RouteNetlinkMessage::DelTrafficFilter(filter_message(index, TcHandle::MIN_INGRESS));
        match self.answer(&what, self.request(delete, 0).await) {
            // The kernel says EINVAL when there is no qdisc, ENOENT when there is no such filter.
            Err(e) if matches!(e.errno(), Some(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT)) => {}
            result => drop(result?),
        }
        let filters = self.handle.traffic_filter(index).get().ingress().execute();
        let filters: Vec<_> = match self.answer(&what, filters.try_collect().await) {
            // No qdisc.
            Err(e) if e.errno() == Some(nix::errno::Errno::EINVAL) => return Ok(()),
            result => result?,
        };
        if !filters.is_empty() || !self.answer(&what, self.has_ingress_qdisc(index).await)? {
            return Ok(());
        }
        let mut qdisc = self.handle.qdisc().del(index);
        qdisc.message_mut().header.parent = TcHandle::INGRESS;
        self.answer(&what, qdisc.execute().await)
    }

    /// True for `ingress`, false for `clsact`, which is not ours.
    async fn has_ingress_qdisc(&self, index: i32) -> Result<bool, rtnetlink::Error> {
        let qdiscs: Vec<_> = self.handle.qdisc().get().index(index).execute().try_collect().await?;
        let ingress = TcAttribute::Kind("ingress".into());
        Ok(qdiscs
            .iter()
            .any(|q| q.header.index == index && q.attributes.contains(&ingress)))
    }
}

fn unless_exists(result: Result<(), KernelError>) -> Result<(), KernelError> {
    result.or_else(|e| if e.is_exists() { Ok(()) } else { Err(e) })
}

/// Names our filter on one side of an interface.
fn filter_message(index: i32, side: u16) -> TcMessage {
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle {
        major: 0xffff,
        minor: side,
    };
    message.header.handle = FILTER_HANDLE.into();
    message.header.info = filter_info(PRIORITY);
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.into()));
    message
}

/// Of a filter for all protocols.
fn filter_info(priority: u16) -> u32 {
    let all_protocols = u16::to_be(libc::ETH_P_ALL as u16);
    TcHandle {
        major: priority,
        minor: all_protocols,
    }
    .into()
}

/// Says by itself what becomes of a frame.
fn drop_all() -> Vec<TcOption> {
    let [count, program] = program(TC_ACT_SHOT);
    vec![
        count,
        program,
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]
}

/// Leaves that to an action.
fn redirect_all(to: u32) -> Vec<TcOption> {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.into()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    let actions = [action];
    let mut bytes = vec![0; actions.as_slice().buffer_len()];
    actions.as_slice().emit(&mut bytes);
    let [count, program] = program(MATCHES);
    vec![count, program, bpf_option(TCA_BPF_ACT, bytes)]
}

/// Of the filter u32: lets pass what has come in by this interface. It looks at no byte, which the shortest of frames do not have.
fn pass_from(name: &str) -> Vec<TcOption> {
    let mut all = TcU32Selector::default();
    all.flags = TcU32SelectorFlags::Terminal;
    let name = name.bytes().chain([0]).collect();
    [TcFilterU32Option::Selector(all), TcFilterU32Option::Indev(name)]
        .map(TcOption::U32)
        .into()
}

/// `return value` as classic BPF (struct sock_filter).
fn program(value: u32) -> [TcOption; 2] {
    let mut instruction = Vec::with_capacity(8);
    instruction.extend(((libc::BPF_RET | libc::BPF_K) as u16).to_ne_bytes());
    instruction.extend([0, 0]); // jump offsets
    instruction.extend(value.to_ne_bytes());
    [
        bpf_option(TCA_BPF_OPS_LEN, 1u16.to_ne_bytes().into()),
        bpf_option(TCA_BPF_OPS, instruction),
    ]
}

fn bpf_option(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Bpf(TcFilterBpfOption::Other(DefaultNla::new(kind, value)))
}
