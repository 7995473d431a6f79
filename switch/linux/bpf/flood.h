/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Floods: to all ports of the switch that are in the frame's VLAN, but the one that it came from. */

#pragma once

#include <linux/pkt_cls.h>
#include "mtu.h"
#include "vlan.h"

/* Most frames that are flooded here in a second, from each port on each processor. A loop soon has more of them than any lab;
 * then they are the daemon's for the rest of the second, and its loop guard sees which stations move. */
#define FLOOD_RATE 10000

/* 01-80-C2-xx-xx-xx: which of them a switch forwards depends on a setting. */
#define FOR_BRIDGES 0x0180c2ULL
/* Most entries of the table of what agents want that are known here: MAX_LEFT of ../src/bpf/rules.rs. */
#define MAX_LEFT 4
/* The entries, written as the programs are loaded: destinations, of which the bits of the mask count. No mask: no entry. The daemon is
 * to see these frames; with entries that are not here it makes no lists (flood_lists of switch/datapath/src/offload.rs). */
const volatile __u64 left_dst[MAX_LEFT];
const volatile __u64 left_mask[MAX_LEFT];

static __always_inline int may_flood(__u64 dst)
{
#pragma unroll
	for (int i = 0; i < MAX_LEFT; i++)
		if (left_mask[i] && (dst & left_mask[i]) == left_dst[i])
			return 0;
	return dst >> 24 != FOR_BRIDGES;
}

static __always_inline const struct flood *flood_of(__u32 in_slot)
{
	struct port *in = bpf_map_lookup_elem(&ports, &in_slot);

	return in ? bpf_map_lookup_elem(&floods, in->net) : 0;
}

/* Not what forms_wanted() gives otherwise: the frame is the daemon's. */
#define DAEMONS (-1)

/* Takes one off what may be flooded in this second. */
static __always_inline int within_rate(struct counters *count, __u32 now)
{
	if (count->flood_second != now) {
		count->flood_second = now;
		count->floods_in_it = 0;
	}
	return count->floods_in_it++ < FLOOD_RATE;
}

/* The form in which a flooded frame leaves a port, as a bit; none if it does not. It is the daemon's if the port is not the kernel's
 * any more, or if it is too long for the port. (Both loops below leave to functions what is done for each port. Linux 6.1 takes all
 * that it knows as essential in a loop that calls one, so what the loops keep has to be unknown to it.) */
__noinline int form_wanted(struct __sk_buff *skb, __u32 slot, __u32 in_slot, __u32 vlan)
{
	struct port *out = bpf_map_lookup_elem(&ports, &slot);
	__u32 rules = out ? rules_of(out) : 0;
	enum form form;

	if (!out || !(rules & DIRECT))
		return DAEMONS;
	if (slot == in_slot)
		return 0;
	form = form_at(rules, slot, vlan);
	if (form == NOT_AT_ALL)
		return 0;
	return fits(skb, out->near) ? 1 << form : DAEMONS;
}

/* The forms in which a flooded frame has to leave, one bit each. It is the daemon's if the switch has no list, or if it is for one
 * of the ports. */
__noinline int forms_wanted(struct __sk_buff *skb, __u32 in_slot, __u32 vlan)
{
	const struct flood *flood = flood_of(in_slot);
	int wanted = 0, one;

	if (!flood)
		return DAEMONS;
	for (__u32 i = 0; i < MAX_FLOOD && i < flood->count; i++) {
		one = form_wanted(skb, flood->slots[i], in_slot, vlan);
		if (one < 0)
			return DAEMONS;
		wanted |= one;
	}
	return wanted;
}

/* Sends a copy of the frame to a port that gets it in this form. The number of copies. */
__noinline __u32 copy_to(struct __sk_buff *skb, __u32 slot, __u32 in_slot, __u32 vlan, __u32 form)
{
	struct port *out = bpf_map_lookup_elem(&ports, &slot);
	__u32 rules = out ? rules_of(out) : 0, len = length(skb);

	if (!out || slot == in_slot || form_at(rules, slot, vlan) != form)
		return 0;
	if (bpf_clone_redirect(skb, out->near, 0) || rules & NO_CARRIER)
		count_lost(slot, rules);
	else
		count_sent(slot, len);
	return 1;
}

/* Sends copies of the frame to all ports of the list that get it in this form, in which it is now. */
__noinline int spread(struct __sk_buff *skb, __u32 in_slot, __u32 vlan, __u32 form)
{
	const struct flood *flood = flood_of(in_slot);
	struct counters *count;
	__u32 copies = 0;

	if (!flood)
		return 0;
	for (__u32 i = 0; i < MAX_FLOOD && i < flood->count; i++)
		copies += copy_to(skb, flood->slots[i], in_slot, vlan, form);
	count = bpf_map_lookup_elem(&counts, &in_slot);
	if (count)
		count->flood_copies += copies;
	return 0;
}

/* Sends the frame to all. What is to become of the frame itself then. */
static __always_inline int flood_out(struct __sk_buff *skb, int wanted, __u32 in_slot, __u16 vlan)
{
	enum form now = form_now(skb, vlan), other;

	if (now == NOT_AT_ALL) {
		if (reshape(skb, vlan, now, TAGGED))
			return TC_ACT_SHOT;
		now = TAGGED;
	}
	other = now == BARE ? TAGGED : BARE;
	if (wanted & 1 << now)
		spread(skb, in_slot, vlan, now);
	if (wanted & 1 << other && !reshape(skb, vlan, now, other))
		spread(skb, in_slot, vlan, other);
	/* All that was wanted are copies. */
	return TC_ACT_SHOT;
}
