use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Error;

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Where webhooks may go: to public addresses over https, and to what is allowed beside these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Networks that are allowed although they are not public.
    allowed: Vec<IpNet>,
    ports: Vec<RangeInclusive<u16>>,
    /// Plain http is accepted on loopback: for tests.
    loopback_http: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { allowed: Vec::new(), ports: vec![443..=443, 8443..=8443], loopback_http: false }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA's IPv4 special-purpose registry, multicast, and the metadata services of clouds. The first
/// network that an address is in gives the reason.
const REFUSED_V4: [(Ipv4Net, Reason); 19] = [
    (v4(169, 254, 169, 254, 32), Reason("a cloud's metadata service")),
    (v4(169, 254, 170, 2, 32), Reason("a cloud's metadata service")),
    (v4(100, 100, 100, 200, 32), Reason("a cloud's metadata service")),
    (v4(168, 63, 129, 16, 32), Reason("a cloud's metadata service")),
    (v4(0, 0, 0, 0, 8), Reason("this host")),
    (v4(127, 0, 0, 0, 8), Reason("loopback")),
    (v4(169, 254, 0, 0, 16), Reason("link-local")),
    (v4(10, 0, 0, 0, 8), Reason("private")),
    (v4(172, 16, 0, 0, 12), Reason("private")),
    (v4(192, 168, 0, 0, 16), Reason("private")),
    (v4(100, 64, 0, 0, 10), Reason("shared by a provider's customers (CGNAT)")),
    (v4(192, 0, 0, 0, 24), Reason("reserved for protocols")),
    (v4(192, 88, 99, 0, 24), Reason("a relay of IPv6 over IPv4")),
    (v4(192, 0, 2, 0, 24), Reason("for documentation")),
    (v4(198, 51, 100, 0, 24), Reason("for documentation")),
    (v4(203, 0, 113, 0, 24), Reason("for documentation")),
    (v4(198, 18, 0, 0, 15), Reason("for benchmarks")),
    (v4(224, 0, 0, 0, 4), Reason("multicast")),
    (v4(240, 0, 0, 0, 4), Reason("reserved or broadcast")),
];

const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is named of IPv6; outside of 2000::/3 everything else is refused too.
const REFUSED_V6: [(Ipv6Net, Reason); 12] = [
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
        Reason("a cloud's metadata service"),
    ),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Reason("loopback")),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), Reason("an IPv4 address in IPv6 (mapped)")),
    (v6(0x64, 0xff9b, 0, 96), Reason("an IPv4 address in IPv6 (NAT64)")),
    (v6(0x64, 0xff9b, 1, 48), Reason("an IPv4 address in IPv6 (NAT64)")),
    (v6(0xfc00, 0, 0, 7), Reason("private")),
    (v6(0xfe80, 0, 0, 10), Reason("link-local")),
    (v6(0xff00, 0, 0, 8), Reason("multicast")),
    (v6(0x2001, 0, 0, 23), Reason("reserved for protocols (Teredo, ORCHID)")),
    (v6(0x2001, 0xdb8, 0, 32), Reason("for documentation")),
    (v6(0x2002, 0, 0, 16), Reason("an IPv4 address in IPv6 (6to4)")),
    (v6(0x3fff, 0, 0, 20), Reason("for documentation")),
];

impl Rules {
    /// Rules from settings: networks as `ADDRESS/BITS` or one address, ports as numbers or ranges
    /// `FIRST-LAST`; none of them means 443 and 8443.
    ///
    /// # Errors
    /// [`Error::Network`] or [`Error::Ports`].
    pub fn new(networks: &[String], ports: &[String], loopback_http: bool) -> Result<Self, Error> {
        let network = |text: &String| {
            let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| Error::Network { text: text.clone() })
        };
        let range = |text: &String| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (Ok(first), Ok(last)) if first > 0 && first <= last => Ok(first..=last),
                _ => Err(Error::Ports { text: text.clone() }),
            }
        };
        let allowed = networks.iter().map(network).collect::<Result<_, _>>()?;
        let ports = ports.iter().map(range).collect::<Result<Vec<_>, _>>()?;
        let ports = if ports.is_empty() { Self::default().ports } else { ports };
        Ok(Self { allowed, ports, loopback_http })
    }

    pub(crate) fn allow_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    pub(crate) fn loopback_http(&self) -> bool {
        self.loopback_http
    }

    /// Why an address is refused; none where it is public or allowed. A network of IPv4 does not
    /// allow the same addresses in their IPv6 forms.
    pub fn refusal(&self, address: IpAddr) -> Option<Reason> {
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => {
                REFUSED_V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, reason)| *reason)
            }
            IpAddr::V6(address) => {
                let named = REFUSED_V6.iter().find(|(network, _)| network.contains(&address));
                let unassigned = (!PUBLIC_V6.contains(&address)).then_some(Reason("not public"));
                named.map(|(_, reason)| *reason).or(unassigned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(rules: &Rules, address: &str) -> Option<&'static str> {
        rules.refusal(address.parse().unwrap()).map(|reason| reason.0)
    }

    #[test]
    fn only_public_addresses_are_reached() {
        let rules = Rules::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert_eq!(refusal(&rules, public), None, "{public}");
        }
        for (address, reason) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("0.0.0.0", "this host"),
            ("0.1.2.3", "this host"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.2", "metadata"),
            ("168.63.129.16", "metadata"),
            ("100.100.100.200", "metadata"),
            ("100.64.0.1", "CGNAT"),
            ("192.0.0.170", "protocols"),
            ("192.0.2.1", "documentation"),
            ("198.19.255.255", "benchmarks"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "not public"),
            ("::1", "loopback"),
            ("::127.0.0.1", "not public"),
            ("::ffff:127.0.0.1", "mapped"),
            ("::ffff:169.254.169.254", "mapped"),
            ("::ffff:8.8.8.8", "mapped"),
            ("::ffff:0:127.0.0.1", "not public"),
            ("64:ff9b::169.254.169.254", "NAT64"),
            ("64:ff9b::8.8.8.8", "NAT64"),
            ("64:ff9b:1::a00:1", "NAT64"),
            ("fd00:ec2::254", "metadata"),
            ("fd00::1", "private"),
            ("fc00::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "not public"),
            ("ff02::1", "multicast"),
            ("2001::1", "Teredo"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "not public"),
            ("100::1", "not public"),
        ] {
            let found = refusal(&rules, address);
            assert!(found.is_some_and(|found| found.contains(reason)), "{address}: {found:?}");
        }
    }

    #[test]
    fn a_setting_allows_what_it_names_and_nothing_beside() {
        let networks = ["10.1.0.0/16".to_owned(), "127.0.0.1".to_owned(), "fd00::/16".to_owned()];
        let rules = Rules::new(&networks, &["80-90".to_owned()], false).unwrap();
        for allowed in ["10.1.2.3", "127.0.0.1", "fd00::5"] {
            assert_eq!(refusal(&rules, allowed), None, "{allowed}");
        }
        for refused in ["10.2.0.1", "127.0.0.2", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd01::1"] {
            assert!(refusal(&rules, refused).is_some(), "{refused}");
        }
        assert!(rules.allow_port(80) && rules.allow_port(90) && !rules.allow_port(443));
        let rule = |network: &str, port: &str| Rules::new(&[network.to_owned()], &[port.to_owned()], false);
        for network in ["10.0.0.0/33", "10", "host", ""] {
            assert!(matches!(rule(network, "1"), Err(Error::Network { .. })), "{network}");
        }
        for port in ["0", "65536", "9-8", "-", "http"] {
            assert!(matches!(rule("10.0.0.0/8", port), Err(Error::Ports { .. })), "{port}");
        }
    }
}
