//! The text of `resolv.conf` (resolv.conf(5)) for a lease.

use std::fmt::Write as _;

use crate::lease::Lease;

/// The most name servers, because glibc and musl read only the first three.
const NAME_SERVERS_MAX: usize = 3;

/// Returns the file's text: name servers and search domains, in the server's order.
#[must_use]
pub fn text(lease: &Lease) -> String {
    let mut text = String::from("# written by the dhcp pod\n");
    for server in lease.name_servers.iter().take(NAME_SERVERS_MAX) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    if !lease.search.is_empty() {
        let _ = writeln!(text, "search {}", lease.search.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::lease::Lease;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn the_order_is_kept_and_the_fourth_server_is_left_out() {
        let lease = Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            server: Ipv4Addr::new(10, 0, 2, 2),
            since: Duration::ZERO,
            renew_at: Duration::MAX,
            rebind_at: Duration::MAX,
            expires: Duration::MAX,
            routes: vec![],
            mtu: None,
            name_servers: (1..5).map(|last| Ipv4Addr::new(10, 0, 2, last)).collect(),
            search: vec!["a.example".into(), "example".into()],
        };
        assert_eq!(
            text(&lease),
            "# written by the dhcp pod\nnameserver 10.0.2.1\nnameserver 10.0.2.2\n\
             nameserver 10.0.2.3\nsearch a.example example\n"
        );
    }
}
