// SPDX-License-Identifier: MIT OR GPL-2.0-only
// (The kernel lends bpf_check_mtu to programs under the GPL only; hence the second licence of this one folder.)
//
// The kernel fast path: tc programs and the maps that they share with the daemon (maps.h).
//
//   from_station   ingress of a veth port's near end: what its station sends
//   to_station     ingress of the port's shadow TAP: what the daemon sends to the station
//   from_device    ingress of a device: what comes from the wire goes to a near end
//   to_device      ingress of that near end's other end: what is for the wire
//
// A frame is forwarded here only if the daemon would do just the same with it: its source is in the table at this very port, and
// its destination behind a port of the same switch and VLAN that is in no need of the daemon, or to be flooded on a switch of
// which no port is. All else goes to the daemon by the shadow TAP, one for each port, so that the daemon knows where the frame
// came in.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "flood.h"
#include "maps.h"
#include "mtu.h"
#include "vlan.h"

#define NSEC_PER_SEC 1000000000ULL

static __always_inline __u64 address(const __u8 *mac)
{
	return (__u64)mac[0] << 40 | (__u64)mac[1] << 32 | (__u64)mac[2] << 24 | (__u64)mac[3] << 16 |
	       (__u64)mac[4] << 8 | mac[5];
}

static __always_inline struct place *find(const struct port *port, __u16 vlan, const __u8 *mac)
{
	struct station key = {};

	key.net[0] = port->net[0];
	key.net[1] = port->net[1];
	key.vlan = vlan;
	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	return bpf_map_lookup_elem(&fdb, &key);
}

/* Slot at which the station of this address is; none (-1) if the element is another station's by now. */
static __always_inline int slot_of(const struct place *place, __u64 mac)
{
	__u64 where = *(const volatile __u64 *)&place->where;

	return (where & 0xffffffffffffULL) == mac ? (int)(where >> 48) : -1;
}

/* By the short way if the frame is for the interface itself: what goes there counts as addressed to the host,
 * so any other frame takes the long one, on which the kernel looks at its address. Behind a near end that has a
 * group address for its station is no host but a device, which sends all alike. The short way passes by a program
 * of XDP (native) at the station's interface. */
static __always_inline int deliver(const struct port *port, __u64 dst)
{
	if (!(port->rules & LONG_WAY) && (dst == address(port->mac) || port->mac[0] & 1))
		return bpf_redirect_peer(port->near, 0);
	return bpf_redirect(port->near, 0);
}

static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / NSEC_PER_SEC;
}

/* The frame came from this station, and is handled here. */
static __always_inline void note(struct place *from, struct counters *count, __u32 len)
{
	__u32 now = seconds();

	/* Once a second: the line is shared by all processors. */
	if (from->seen != now)
		from->seen = now;
	if (count) {
		count->rx_frames++;
		count->rx_bytes += len;
	}
}

SEC("classifier")
int from_station(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	__u32 index = skb->ifindex, len = length(skb), out_slot;
	__u32 *in_slot = bpf_map_lookup_elem(&slots, &index);
	struct port *in = in_slot ? bpf_map_lookup_elem(&ports, in_slot) : 0;
	struct place *from, *to = 0;
	struct counters *count;
	__u32 rules, out_rules;
	enum form now, then;
	struct port *out;
	__u64 src, dst;
	__u16 vlan;
	int slot, wanted;

	if (!in)
		return TC_ACT_SHOT;
	rules = rules_of(in);
	if ((void *)(eth + 1) > (void *)(long)skb->data_end || !(rules & DIRECT))
		goto daemon;
	vlan = classify(skb, rules, *in_slot, eth->h_proto);
	if (vlan == NO_VLAN)
		goto daemon;
	src = address(eth->h_source);
	from = find(in, vlan, eth->h_source);
	/* Not known, or not here: to be learned. Addresses that no station can have are never in the table. */
	if (!from || slot_of(from, src) != (int)*in_slot)
		goto daemon;
	dst = address(eth->h_dest);
	if (!(eth->h_dest[0] & 1))
		to = find(in, vlan, eth->h_dest);
	if (!to) {
		if (!may_flood(dst))
			goto daemon;
		wanted = forms_wanted(skb, *in_slot, vlan);
		count = bpf_map_lookup_elem(&counts, in_slot);
		if (wanted == DAEMONS || !count || !within_rate(count, seconds()))
			goto daemon;
		note(from, count, len);
		count->rx_flooded++;
		return flood_out(skb, wanted, *in_slot, vlan);
	}

	slot = slot_of(to, dst);
	if (slot < 0 || slot == (int)*in_slot)
		goto daemon;
	out_slot = slot;
	out = bpf_map_lookup_elem(&ports, &out_slot);
	out_rules = out ? rules_of(out) : 0;
	if (!out || !(out_rules & DIRECT) || !same_net(out, in))
		goto daemon;
	now = form_now(skb, vlan);
	then = form_at(out_rules, out_slot, vlan);
	/* The daemon says in its counters why a frame that is too long for the port, or of a VLAN that it is not in, is dropped. */
	if (then == NOT_AT_ALL || !fits(skb, out->near))
		goto daemon;
	note(from, bpf_map_lookup_elem(&counts, in_slot), len);
	if (reshape(skb, vlan, now, then))
		return TC_ACT_SHOT;
	count_sent(out_slot, length(skb));
	return deliver(out, dst);

daemon:
	return bpf_redirect(in->shadow, 0);
}

SEC("classifier")
int to_station(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	__u32 index = skb->ifindex;
	__u32 *slot = bpf_map_lookup_elem(&slots, &index);
	struct port *port = slot ? bpf_map_lookup_elem(&ports, slot) : 0;

	if (!port || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	return deliver(port, address(eth->h_dest));
}

/* bpf_redirect leads to interfaces of one namespace only, and a device stays in its own. So a veth pair leads from there to the
 * near end in the daemon's, where all goes on as for a station. */
SEC("classifier")
int from_device(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	__u32 *end = bpf_map_lookup_elem(&splices, &index);

	return end ? bpf_redirect_peer(*end, 0) : TC_ACT_SHOT;
}

SEC("classifier")
int to_device(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	__u32 *device = bpf_map_lookup_elem(&splices, &index);

	return device ? bpf_redirect(*device, 0) : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
