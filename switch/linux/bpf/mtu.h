/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Whether a frame, or each segment of it, fits the MTU of a port. */

#pragma once

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

/* Whether the segments of a BIG TCP frame over IPv6 fit the MTU. The kernel counts the hop-by-hop header with the jumbo payload
 * option (RFC 2675), which no segment has. */
static __always_inline int fits_without_jumbo(struct __sk_buff *skb, __u32 mtu)
{
	struct {
		struct ipv6hdr ip;
		__u8 next, length, option, option_length;
		__be32 payload;
		struct tcphdr tcp;
	} headers;

	if (skb->protocol != bpf_htons(ETH_P_IPV6) || skb->len <= 0xffff ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &headers, sizeof(headers)))
		return 0;
	return headers.ip.nexthdr == IPPROTO_HOPOPTS && headers.length == 0 && headers.option == IPV6_TLV_JUMBO &&
	       headers.next == IPPROTO_TCP && sizeof(headers.ip) + headers.tcp.doff * 4 + skb->gso_size <= mtu;
}

/* `near`: the port's near end. */
__noinline int fits(struct __sk_buff *skb, __u32 near)
{
	__u32 mtu = 0;

	return !bpf_check_mtu(skb, near, &mtu, 0, BPF_MTU_CHK_SEGS) || fits_without_jumbo(skb, mtu);
}
