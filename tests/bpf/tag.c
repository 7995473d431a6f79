// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Makes a station of a trunk without a VLAN device, which not every kernel has: whatever it sends gets a tag of VLAN 10, and
// whatever of VLAN 10 comes to it loses the tag.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN 10

SEC("push")
int push_tag(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("pop")
int pop_tag(struct __sk_buff *skb)
{
	if (!skb->vlan_present || skb->vlan_tci != VLAN)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}
