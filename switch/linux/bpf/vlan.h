/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* VLANs (IEEE 802.1Q-2022 clauses 6.9 and 8.6.2), as vswitch-datapath (vlan.rs) has them. Before a program at ingress runs the kernel
 * has taken the outermost tag out of the frame and keeps it beside. So putting a customer tag in or taking it out moves no byte,
 * and a GSO frame stays one. */

#pragma once

#include <bpf/bpf_endian.h>
#include "maps.h"

#define VLAN_HLEN 4
#define VLAN_ID 0x0fff
/* Not a VLAN (table 9-2), so no port is in it. */
#define VLAN_RESERVED 0x0fff
/* Of a port: no native VLAN. Of a frame: the daemon is to say which VLAN it is in, or why in none. */
#define NO_VLAN 0xffff

/* How frames of a VLAN leave a port. */
enum form {
	NOT_AT_ALL,
	BARE,
	TAGGED,
};

static __always_inline int is_tag(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* Whether a TRUNK that is not in EVERY_VLAN is in one besides its native one. (A function of its own, as are others that are not static: the verifier
 * goes through it once, and not on each way that leads to it.) */
__noinline int is_member(__u32 slot, __u32 vlan)
{
	struct vlans *vlans = bpf_map_lookup_elem(&members, &slot);
	__u32 word = vlan / 64;

	/* The verifier does not see what the compiler does: that it is less than 64. */
	asm volatile("" : "+r"(word));
	return vlans && word < 64 && vlans->words[word] >> (vlan & 63) & 1;
}

/* Form in which a frame of this VLAN leaves the port of this slot, which has these rules. */
static __always_inline enum form form_at(__u32 rules, __u32 slot, __u16 vlan)
{
	if (NATIVE(rules) == vlan)
		return BARE;
	if (!(rules & TRUNK) || vlan == 0 || vlan >= VLAN_RESERVED)
		return NOT_AT_ALL;
	return rules & EVERY_VLAN || is_member(slot, vlan) ? TAGGED : NOT_AT_ALL;
}

/* VLAN of a frame that came in at a port with these rules; `inner`: the EtherType behind the tag beside it. */
static __always_inline __u16 classify(struct __sk_buff *skb, __u32 rules, __u32 slot, __be16 inner)
{
	__u16 id;

	if (rules & PAYLOAD_TAGS)
		return NATIVE(rules);
	/* One tag at most, for a customer's VLAN: whatever else there is, the daemon knows. A frame with less than two bytes behind
	 * a tag in its place, as the daemon sends it, no kernel takes in; beside the frame it would. */
	if (is_tag(inner) || skb->len < ETH_HLEN + 2)
		return NO_VLAN;
	if (skb->vlan_present) {
		if (skb->vlan_proto != bpf_htons(ETH_P_8021Q))
			return NO_VLAN;
		id = skb->vlan_tci & VLAN_ID;
		if (id != 0) {
			if (!(rules & ACCEPT_TAGGED) || form_at(rules, slot, id) == NOT_AT_ALL)
				return NO_VLAN;
			return id;
		}
		/* A tunnel's frames are never looked into. */
		if (!(rules & ACCEPT_TAGGED))
			return NO_VLAN;
	}
	return rules & ACCEPT_UNTAGGED ? NATIVE(rules) : NO_VLAN;
}

/* Form in which a frame of this VLAN is now; NOT_AT_ALL: in neither, as its tag tells the priority only. */
static __always_inline enum form form_now(struct __sk_buff *skb, __u16 vlan)
{
	if (!skb->vlan_present || vlan == 0)
		return BARE;
	return (skb->vlan_tci & VLAN_ID) == vlan ? TAGGED : NOT_AT_ALL;
}

/* Gives a frame of this VLAN, which is in the form `now`, the form `then`. */
static __always_inline int reshape(struct __sk_buff *skb, __u16 vlan, enum form now, enum form then)
{
	__u16 priority = skb->vlan_present ? skb->vlan_tci & ~VLAN_ID : 0;

	if (now == then)
		return 0;
	if (now != BARE && bpf_skb_vlan_pop(skb))
		return -1;
	return then == TAGGED ? bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), priority | vlan) : 0;
}

/* A tag beside the frame is part of it. */
static __always_inline __u32 length(struct __sk_buff *skb)
{
	return skb->len + (skb->vlan_present ? VLAN_HLEN : 0);
}
