//! The choice of routes: the user's wish and the APIs that the cluster serves.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::kind::Kind;

/// The user's wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    /// The best API that the cluster serves.
    #[default]
    Auto,
    /// One way.
    Only(Way),
    /// No routes: an administrator makes them.
    None,
}

/// A way to lead visitors to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Routes of the Gateway API.
    HttpRoute,
    /// Ingresses.
    Ingress,
    /// Traefik's routes.
    Traefik,
    /// The route file of Kiln's gateway.
    File,
}

/// The kinds that the cluster serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served(pub BTreeSet<Kind>);

impl Served {
    /// True if the kind is served.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        kind.is_built_in() || self.0.contains(&kind)
    }
}

impl Way {
    /// Returns the kind of its routes.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::HttpRoute => Kind::HttpRoute,
            Self::Ingress => Kind::Ingress,
            Self::Traefik => Kind::IngressRoute,
            Self::File => Kind::RouteFile,
        }
    }
}

/// Chooses a way; `None` if an administrator makes the routes. The error names the missing API.
///
/// The Gateway API is chosen only if a Gateway was named, because a route needs one. Traefik comes
/// before Ingress, because every cluster accepts Ingresses, also one without a program that serves
/// them.
pub fn choose(wish: Wish, served: &Served, has_gateway: bool) -> Result<Option<Way>, String> {
    match wish {
        Wish::None => Ok(None),
        Wish::Auto if has_gateway && served.has(Kind::HttpRoute) => Ok(Some(Way::HttpRoute)),
        Wish::Auto if served.has(Kind::IngressRoute) => Ok(Some(Way::Traefik)),
        Wish::Auto => Ok(Some(Way::Ingress)),
        Wish::Only(way) if served.has(way.kind()) => Ok(Some(way)),
        Wish::Only(way) => Err(format!(
            "the cluster does not serve {} of {}; install its definitions, or choose other --routes",
            way.kind().name(),
            way.kind().api_version()
        )),
    }
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "httproute" => Self::Only(Way::HttpRoute),
            "ingress" => Self::Only(Way::Ingress),
            "traefik" => Self::Only(Way::Traefik),
            "file" => Self::Only(Way::File),
            "none" => Self::None,
            _ => return Err("use auto, httproute, ingress, traefik, file or none".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Served, Way, Wish, choose};

    fn check(wish: &str, served: &[Kind], has_gateway: bool, expected: Result<Option<Way>, &str>) {
        let served = Served(served.iter().copied().collect());
        match (choose(wish.parse().unwrap(), &served, has_gateway), expected) {
            (Ok(way), Ok(expected)) => assert_eq!(way, expected, "{wish}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (found, expected) => panic!("{wish}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_best_served_way_is_chosen_and_a_missing_one_is_named() {
        let both = [Kind::HttpRoute, Kind::IngressRoute];
        check("auto", &both, true, Ok(Some(Way::HttpRoute)));
        check("auto", &both, false, Ok(Some(Way::Traefik)));
        check("auto", &[], true, Ok(Some(Way::Ingress)));
        check("file", &[], false, Ok(Some(Way::File)));
        check("none", &both, true, Ok(None));
        check("traefik", &[], false, Err("does not serve IngressRoute of traefik.io/v1alpha1"));
        assert!("nginx".parse::<Wish>().is_err());
    }
}
