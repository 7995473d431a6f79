use nix::errno::Errno;
use vswitch_api::lab::Route;
use vswitch_api::name::{IfAddr, Mac};

use super::{MAC, cable, delivers, end, namespace, sandboxed, tapped};
use crate::{AddressScope, KernelRoute, VethPeer, announce};

#[test]
fn addresses_come_and_go() {
    sandboxed(async || {
        let (_own, red) = cable("own", "red").await;
        for text in ["192.168.15.1/24", "10.0.0.1/31", "fd00::1/64"] {
            let address: IfAddr = text.parse().unwrap();
            red.netlink.add_address(red.index, address).await.unwrap();
            let entry = (red.index, address.net(), AddressScope::Universe);
            assert!(red.netlink.addresses().await.unwrap().contains(&entry), "{text}");
            assert!(
                red.netlink
                    .add_address(red.index, address)
                    .await
                    .unwrap_err()
                    .is_exists()
            );

            red.netlink.del_address(red.index, address).await.unwrap();
            assert!(!red.netlink.addresses().await.unwrap().contains(&entry), "{text}");
            let error = red.netlink.del_address(red.index, address).await.unwrap_err();
            assert!(error.is_gone(), "{error}");
            assert_eq!(error.errno(), Some(Errno::EADDRNOTAVAIL));
            assert!(
                error.to_string().starts_with(&format!("remove {text} from interface ")),
                "{error}"
            );
        }
        let on_nothing = red
            .netlink
            .add_address(999, "10.0.0.1/24".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(on_nothing.errno(), Some(Errno::ENODEV));
    });
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    sandboxed(async || {
        let (own, red) = cable("own", "red").await;
        own.add("fd00::1/64").await;
        red.add("fd00::2/64").await;
        // Binding to an address that is still being probed fails.
        let (here, there) = (own.udp("[fd00::1]:7000").await, red.udp("[fd00::2]:7000").await);
        assert!(delivers(&here, &there));
        let known = own.netlink.neighbours().await.unwrap();
        assert!(
            known
                .iter()
                .any(|n| n.ip == "fd00::2".parse::<std::net::IpAddr>().unwrap() && n.mac == Some(MAC))
        );
    });
}

#[test]
fn routes_come_and_go() {
    sandboxed(async || {
        let (_own, red) = cable("own", "red").await;
        red.add("192.168.15.1/24").await;
        red.add("fd00::1/64").await;
        for (to, via) in [
            ("0.0.0.0/0", Some("192.168.15.254")),
            ("10.1.0.0/16", None),
            ("::/0", Some("fd00::ff")),
            ("fd01::/64", None),
        ] {
            let route = Route::new(to.parse().unwrap(), via.map(|via| via.parse().unwrap()));
            let entry = KernelRoute {
                to: route.to,
                via: route.via,
                index: Some(red.index),
            };
            red.netlink.add_route(red.index, &route).await.unwrap();
            assert!(red.netlink.routes().await.unwrap().contains(&entry), "{to}");
            let error = red.netlink.add_route(red.index, &route).await.unwrap_err();
            assert!(error.is_exists(), "{error}");
            red.netlink.del_route(red.index, &route).await.unwrap();
            assert!(!red.netlink.routes().await.unwrap().contains(&entry), "{to}");
            let error = red.netlink.del_route(red.index, &route).await.unwrap_err();
            assert_eq!(error.errno(), Some(Errno::ESRCH), "{error}");
        }
        let connected = KernelRoute {
            to: "192.168.15.0/24".parse().unwrap(),
            via: None,
            index: Some(red.index),
        };
        assert!(red.netlink.routes().await.unwrap().contains(&connected));

        for (to, via) in [("0.0.0.0/0", "172.16.0.1"), ("::/0", "fd77::1")] {
            let off_link = Route::new(to.parse().unwrap(), Some(via.parse().unwrap()));
            let error = red.netlink.add_route(red.index, &off_link).await.unwrap_err();
            let unreachable = [Errno::ENETUNREACH, Errno::EHOSTUNREACH].map(Some);
            assert!(unreachable.contains(&error.errno()), "{error}");
            let said = Route {
                onlink: true,
                ..off_link
            };
            red.netlink.add_route(red.index, &said).await.unwrap();
            red.netlink.del_route(red.index, &said).await.unwrap();
        }
        let mixed = Route::new("::/0".parse().unwrap(), Some("192.168.15.254".parse().unwrap()));
        assert!(red.netlink.add_route(red.index, &mixed).await.is_err());
    });
}

/// With the address taken and given all else that the interface has would go.
#[test]
fn the_route_to_a_network_comes_back_as_the_kernel_makes_it() {
    sandboxed(async || {
        let (_own, red) = cable("own", "red").await;
        let ip = async |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let run = move || std::process::Command::new("ip").args(words).output();
            let output = red.netns.run(run).await.unwrap().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let sorted = |text: String| {
            // What the stack has by itself comes when it likes.
            let own = text
                .lines()
                .filter(|line| line.contains("10.") || line.contains("fd07::"));
            let mut lines: Vec<_> = own.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let all = async || sorted(ip("route show table all").await + &ip("-6 route show table all").await);
        for address in ["10.7.0.1/24", "10.7.0.2/24", "fd07::1/64"] {
            red.add(address).await;
        }
        ip("route add 10.9.0.0/16 via 10.7.0.9").await;
        let before = all().await;
        for to in ["10.7.0.0/24", "fd07::/64"] {
            ip(&format!("route del {to} dev eth0")).await;
        }
        assert_ne!(all().await, before);
        for address in ["10.7.0.2/24", "fd07::1/64", "fd07::1/64"] {
            let address = address.parse().unwrap();
            red.netlink.add_network(red.index, address).await.unwrap();
        }
        assert_eq!(all().await, before);
        // They go with the addresses.
        ip("addr flush dev eth0 scope global").await;
        let left = all().await.concat();
        assert!(!left.contains("10.7.0.") && !left.contains("fd07::"), "{left}");
        red.netlink.set_down(red.index).await.unwrap();
        red.add("10.7.0.1/24").await;
        let address = "10.7.0.1/24".parse().unwrap();
        red.netlink.add_network(red.index, address).await.unwrap();
    });
}

/// A switch with DHCP advertises a default route, and then no port of it could be given one.
#[test]
fn a_route_that_a_router_told_of_is_not_in_the_way() {
    sandboxed(async || {
        let (_own, red) = cable("own", "red").await;
        red.add("fd00::1/64").await;
        let add = |words: &str| {
            let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
            move || {
                std::process::Command::new("ip")
                    .args(["-6", "route", "add"])
                    .args(words)
                    .status()
            }
        };
        let advertised = "default via fe80::9 dev eth0 proto ra metric 1024";
        let added = red.netns.run(add(advertised)).await.unwrap().unwrap();
        assert!(added.success());
        let route = |via: &str| Route::new("::/0".parse().unwrap(), Some(via.parse().unwrap()));
        let hops = async || {
            let routes = red.netlink.routes().await.unwrap().into_iter();
            let hops = routes.filter(|route| route.to.prefix_len() == 0);
            hops.filter_map(|route| route.via)
                .map(|via| via.to_string())
                .collect::<Vec<_>>()
        };
        red.netlink.add_route(red.index, &route("fd00::ff")).await.unwrap();
        assert_eq!(hops().await, ["fe80::9", "fd00::ff"]);
        for via in ["fd00::ff", "fd00::fe"] {
            let error = red.netlink.add_route(red.index, &route(via)).await.unwrap_err();
            assert!(error.is_exists(), "{error}");
        }
        red.netlink.del_route(red.index, &route("fd00::ff")).await.unwrap();
        assert_eq!(hops().await, ["fe80::9"]);
    });
}

/// Without the announcement the neighbour goes on sending to the old address until its entry times out.
#[test]
fn an_announcement_corrects_what_the_neighbours_know() {
    sandboxed(async || {
        let (own, red) = cable("own", "red").await;
        for (near, far) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let prefix = if near.contains(':') { 64 } else { 24 };
            own.add(&format!("{near}/{prefix}")).await;
            red.add(&format!("{far}/{prefix}")).await;
            let bracketed = |ip: &str| {
                if ip.contains(':') {
                    format!("[{ip}]:7000")
                } else {
                    format!("{ip}:7000")
                }
            };
            assert!(delivers(
                &own.udp(&bracketed(near)).await,
                &red.udp(&bracketed(far)).await
            ));
            let ip = far.parse().unwrap();
            let known = async || {
                let table = own.netlink.neighbours().await.unwrap();
                table.into_iter().find(|n| n.ip == ip).and_then(|n| n.mac)
            };
            assert_eq!(known().await, Some(MAC), "{ip}");

            let new = Mac([2, 0x76, 0x73, 0, 0, 2]);
            red.netlink.set_mac(red.index, new).await.unwrap();
            assert_eq!(known().await, Some(MAC), "{ip}: nobody announced it yet");
            announce(&red.netns, red.index, new, ip).await.unwrap();
            assert_eq!(known().await, Some(new), "{ip}");
            red.netlink.set_mac(red.index, MAC).await.unwrap();
        }
        red.netlink.set_down(red.index).await.unwrap();
        let error = announce(&red.netns, red.index, MAC, "10.0.0.2".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENETDOWN), "{error}");
    });
}

/// The kernel's own sending starts a moment after the carrier; until then frames vanish without an error.
#[test]
fn an_announcement_is_not_lost_on_a_link_that_has_just_come_up() {
    sandboxed(async || {
        let (own, red) = (namespace("own").await, namespace("red").await);
        let netlink = own.netlink().await.unwrap();
        for _ in 0..50 {
            netlink
                .add_veth(
                    "eth0",
                    1500,
                    VethPeer {
                        netns: &red,
                        name: "eth0",
                        mac: MAC,
                    },
                )
                .await
                .unwrap();
            let (far, near) = (end(red.clone()).await, end(own.clone()).await);
            let tap = near.tap().await;
            announce(&red, far.index, MAC, "10.0.0.2".parse().unwrap())
                .await
                .unwrap();
            assert!(tapped(&tap, &[0, 0, 0, 0, 0, 0, 10, 0, 0, 2]));
            netlink.delete_link(near.index).await.unwrap();
        }
    });
}
