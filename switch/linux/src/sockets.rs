//! Sockets of the daemon's own namespace that wait for whoever comes.

use std::io;
use std::net::SocketAddr;

use procfs::net::{TcpState, tcp, tcp6, udp, udp6};
use procfs::{ProcError, ProcResult};

/// Addresses at which TCP connections are taken.
///
/// # Errors
/// /proc/net can't be read.
pub fn tcp_listeners() -> io::Result<Vec<SocketAddr>> {
    let all = both(tcp(), tcp6())?.into_iter();
    let listening = all.filter(|socket| socket.state == TcpState::Listen);
    Ok(listening.map(|socket| socket.local_address).collect())
}

/// Addresses at which UDP datagrams are taken from anybody.
///
/// # Errors
/// /proc/net can't be read.
pub fn udp_listeners() -> io::Result<Vec<SocketAddr>> {
    let all = both(udp(), udp6())?.into_iter();
    let of_anybody = all.filter(|socket| socket.remote_address.port() == 0);
    Ok(of_anybody.map(|socket| socket.local_address).collect())
}

/// Those of both IP versions. Without IPv6 in the kernel there is no list of its.
fn both<T>(v4: ProcResult<Vec<T>>, v6: ProcResult<Vec<T>>) -> io::Result<Vec<T>> {
    let mut all = v4.map_err(io::Error::other)?;
    match v6 {
        Ok(more) => all.extend(more),
        Err(ProcError::NotFound(_)) => {}
        Err(error) => return Err(io::Error::other(error)),
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_waits_is_seen_and_who_talks_is_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let talking = UdpSocket::bind("127.0.0.1:0").unwrap();
        talking.connect(udp.local_addr().unwrap()).unwrap();
        assert!(tcp_listeners().unwrap().contains(&tcp.local_addr().unwrap()));
        let all = udp_listeners().unwrap();
        assert!(all.contains(&udp.local_addr().unwrap()));
        assert!(!all.contains(&talking.local_addr().unwrap()));
    }
}
