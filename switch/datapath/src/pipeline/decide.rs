//! The stages that each frame passes for itself, in the order in which [`Ingress::decide`] has them.

use vswitch_api::Mac;
use vswitch_api::policy::BeyondLimit;

use super::{Ingress, Output};
use crate::PortId;
use crate::acl::Refused;
use crate::admit::{BROADCAST, admit, is_group};
use crate::batch::FrameVlan;
use crate::counters::DropReason;
use crate::effects::FrameEffects;
use crate::fdb::{FdbKey, LearnRule, Learned};
use crate::frame::{Checked, VNET_HDR_LEN, u64_to_mac};
use crate::trace::Stage;
use crate::traffic::Limiter;
use crate::vlan::NO_VLAN;

impl<'a> Ingress<'a> {
    /// The stages that each frame passes for itself: what becomes of it, or why nothing does.
    #[inline(always)]
    pub(super) fn decide<const POLICY: bool, E: FrameEffects>(
        self,
        effects: &mut E,
        wire: &[u8],
    ) -> Result<(FrameVlan, Output<'a>), DropReason> {
        let admitted = admit(wire, self.port, self.switch.reserved, &self.snapshot.punts);
        effects.tell(|| {
            [Stage::Admit {
                len: wire.len() - VNET_HDR_LEN,
                dropped: admitted.as_ref().err().copied(),
            }]
        });
        let (frame, dst, src) = admitted?;
        let mut vlan = FrameVlan::default();
        if POLICY {
            vlan = self.classify(effects, frame.frame())?;
            self.check_rules(effects, &frame, u64_to_mac(src), vlan)?;
            self.police(effects, &frame)?;
        }
        if self.snapshot.punts.may_want(dst) && self.punt(effects, frame.frame(), dst, vlan)? {
            // Another switch's probe: it goes on, and is nobody's station.
        } else {
            self.learn::<POLICY, E>(effects, FdbKey::new(if POLICY { vlan.id() } else { NO_VLAN }, src))?;
        }
        let output = self.look_up(effects, vlan, dst);
        match output {
            Output::Port(egress) => {
                let allowed = self.may_leave::<POLICY>(egress, vlan);
                effects.tell(|| self.looked_up(vlan, dst, Some(egress), allowed.err()));
                allowed?;
            }
            Output::Flood(_) => {
                effects.tell(|| self.looked_up(vlan, dst, None, None));
                self.check_flood(effects, wire, dst, vlan)?;
            }
        }
        Ok((vlan, output))
    }

    /// The VLAN that the frame is in, on a switch that tells them apart.
    #[inline]
    fn classify<E: FrameEffects>(self, effects: &mut E, frame: &[u8]) -> Result<FrameVlan, DropReason> {
        if !self.switch.vlan_aware {
            return Ok(FrameVlan::default());
        }
        let classified = self.port.policy().vlan.classify(frame);
        effects.tell(|| {
            [Stage::Vlan {
                id: classified.as_ref().map_or(NO_VLAN, |vlan| vlan.id()),
                dropped: classified.as_ref().err().copied(),
            }]
        });
        classified
    }

    /// Pinned addresses and access control list of the port.
    #[inline]
    fn check_rules<E: FrameEffects>(
        self,
        effects: &mut E,
        frame: &Checked<'_>,
        src: Mac,
        vlan: FrameVlan,
    ) -> Result<(), DropReason> {
        let policy = self.port.policy();
        if policy.pin.is_none() && policy.acl_in.is_none() {
            return Ok(());
        }
        let reading = frame.read();
        let pinned = policy
            .pin
            .as_ref()
            .map_or(Ok(()), |pin| pin.check(&reading, *frame.header(), src));
        let checked = pinned.and_then(|()| match &policy.acl_in {
            Some(acl) => effects
                .check(
                    acl,
                    &reading,
                    || frame.wire_size(),
                    || self.snapshot.clock.nanoseconds(),
                    vlan.id(),
                )
                .map_err(Refused::ingress),
            None => Ok(()),
        });
        effects.tell(|| [Stage::Rules { dropped: checked.err() }]);
        checked
    }

    /// The rate of what may come in at the port, if it has one.
    #[inline]
    pub(super) fn policer(self) -> Option<&'a Limiter> {
        self.port.traffic.as_ref()?.policer()
    }

    /// The policer of the port, which only what has come so far uses up.
    #[inline]
    fn police<E: FrameEffects>(self, effects: &mut E, frame: &Checked<'_>) -> Result<(), DropReason> {
        let Some(policer) = self.policer() else { return Ok(()) };
        let passes = effects.admits(policer, self.snapshot.clock.nanoseconds(), frame.wire_size());
        let dropped = (!passes).then_some(DropReason::Policed);
        effects.tell(|| [Stage::Police { dropped }]);
        dropped.map_or(Ok(()), Err)
    }

    /// Learns the source, where the port does so.
    #[inline(always)]
    fn learn<const POLICY: bool, E: FrameEffects>(self, effects: &mut E, key: FdbKey) -> Result<(), DropReason> {
        let step = |learned, dropped| {
            [Stage::Learn {
                mac: key.mac(),
                learned,
                known: self.switch.fdb.record(key, self.now),
                dropped,
            }]
        };
        if POLICY {
            let (learned, result) = self.learn_by_policy(effects, key);
            effects.tell(|| step(learned, result.err()));
            result
        } else {
            let learned = effects.learn(self, key, LearnRule::PLAIN);
            effects.tell(|| step(Some(learned), None));
            Ok(())
        }
    }

    fn learn_by_policy<E: FrameEffects>(
        self,
        effects: &mut E,
        key: FdbKey,
    ) -> (Option<Learned>, Result<(), DropReason>) {
        let policy = self.port.policy();
        // Whom it knows there is learned from as elsewhere: who talks does not age.
        if policy.learning.locked && self.switch.fdb.lookup(key) != Some(self.port.id) {
            return (None, Err(DropReason::Locked));
        }
        if !policy.learning.enabled || self.switch.rspan.iter().any(|rspan| rspan.get() == key.vlan()) {
            return (None, Ok(()));
        }
        let learned = effects.learn(self, key, policy.learn_rule(self.switch.vlan_limit));
        if learned == Learned::Limited && policy.drops_beyond_limit() {
            if policy.learning.beyond == BeyondLimit::Shut {
                effects.limit_reached();
            }
            return (Some(learned), Err(DropReason::MacLimit));
        }
        (Some(learned), Ok(()))
    }

    /// Where the destination is. An entry whose port is down, going away or a mirror's is as good as none. 00:00:00:00:00:00 is
    /// nobody, and the key of no entry.
    #[inline(always)]
    fn look_up<E: FrameEffects>(self, effects: &E, vlan: FrameVlan, dst: u64) -> Output<'a> {
        let flood = &self.switch.flood;
        if is_group(dst) {
            return Output::Flood(if dst == BROADCAST {
                &flood.broadcast
            } else {
                &flood.multicast
            });
        }
        let known = effects.look_up(&self.switch.fdb, FdbKey::new(vlan.id(), dst));
        match known.filter(|egress| {
            dst != 0
                && self
                    .snapshot
                    .port(*egress)
                    .is_some_and(|port| port.up && !port.mirror_only)
        }) {
            Some(egress) => Output::Port(egress),
            None => Output::Flood(&flood.unknown_unicast),
        }
    }

    /// What a trace hears of it.
    fn looked_up(self, vlan: FrameVlan, dst: u64, to: Option<PortId>, dropped: Option<DropReason>) -> [Stage; 1] {
        let known = self.switch.fdb.record(FdbKey::new(vlan.id(), dst), self.now);
        [Stage::LookUp {
            mac: u64_to_mac(dst),
            known: known.filter(|_| !is_group(dst)),
            to,
            dropped,
        }]
    }

    /// Whether a frame, for the station behind `egress` or flooded, may go there.
    #[inline]
    pub(super) fn may_leave<const POLICY: bool>(self, egress: PortId, vlan: FrameVlan) -> Result<(), DropReason> {
        if egress == self.port.id && !(POLICY && self.port.policy().flooding.hairpin) {
            return Err(DropReason::SamePort);
        }
        if POLICY && let Some(port) = self.snapshot.port(egress) {
            let policy = port.policy();
            if self.switch.vlan_aware && !policy.vlan.is_member(vlan.id()) {
                return Err(DropReason::VlanFiltered);
            }
            if egress != self.port.id && !self.port.policy().reaches(policy) {
                return Err(DropReason::Isolated);
            }
        }
        Ok(())
    }

    /// What a frame passes that is to be flooded, if there is anything.
    #[inline(always)]
    fn check_flood<E: FrameEffects>(
        self,
        effects: &mut E,
        wire: &[u8],
        dst: u64,
        vlan: FrameVlan,
    ) -> Result<(), DropReason> {
        if self.switch.held.is_none() && self.port.traffic.is_none() {
            return Ok(());
        }
        self.check_hold_and_storm(effects, wire, dst, vlan)
    }

    /// The loop guard, while it holds floods, and storm control. Out of line, so that the way of plain frames has the more registers.
    #[inline(never)]
    fn check_hold_and_storm<E: FrameEffects>(
        self,
        effects: &mut E,
        wire: &[u8],
        dst: u64,
        vlan: FrameVlan,
    ) -> Result<(), DropReason> {
        if self.switch.held.is_some() {
            self.hold(effects, wire, vlan)?;
        }
        let Some(traffic) = &self.port.traffic else {
            return Ok(());
        };
        let Some(limiter) = traffic.storm(u64_to_mac(dst)) else {
            return Ok(());
        };
        // Read again, so that the plain way need not carry it so far.
        let size = Checked::known(wire).map(|frame| frame.wire_size());
        let passes = size.is_none_or(|size| effects.admits(limiter, self.snapshot.clock.nanoseconds(), size));
        let dropped = (!passes).then_some(DropReason::Storm);
        effects.tell(|| [Stage::Storm { dropped }]);
        dropped.map_or(Ok(()), Err)
    }
}
