//! The definitions of the resource, one per group, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::CustomResourceExt as _;

use super::{Group, PLURAL, StaticSite};

/// The older version of kup6s-pages, whose objects may be in a cluster's store.
const OLD: &str = "v1alpha1";

/// The pattern of repositories in kup6s-pages.
const KUP6S_REPO: &str = "^https?://.*";

/// The field that only our own group has, in specification and status.
const PREVIEWS: &str = "previews";

/// Returns the definition for a group.
#[must_use]
pub fn definition(group: Group) -> CustomResourceDefinition {
    let own = StaticSite::crd();
    match group {
        Group::Kiln => own,
        Group::Kup6s => compatible(own),
    }
}

/// Turns our definition into one that accepts every manifest that kup6s-pages accepts. That project has
/// no previews.
fn compatible(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let group = Group::Kup6s.name();
    crd.metadata.name = Some(format!("{PLURAL}.{group}"));
    group.clone_into(&mut crd.spec.group);
    for version in &mut crd.spec.versions {
        if let Some(status) = part(version, "status") {
            status.properties.as_mut().and_then(|fields| fields.remove(PREVIEWS));
        }
        if let Some(spec) = part(version, "spec") {
            spec.x_kubernetes_validations = None;
            spec.properties.as_mut().and_then(|fields| fields.remove(PREVIEWS));
            if let Some(repo) = spec.properties.as_mut().and_then(|fields| fields.get_mut("repo")) {
                repo.pattern = Some(KUP6S_REPO.to_owned());
            }
        }
    }
    let old = crd.spec.versions.first().cloned().map(|version| CustomResourceDefinitionVersion {
        name: OLD.to_owned(),
        storage: false,
        deprecated: Some(true),
        ..version
    });
    crd.spec.versions.extend(old);
    crd
}

/// Returns the schema of the field `spec` or `status`.
fn part<'a>(
    version: &'a mut CustomResourceDefinitionVersion,
    name: &str,
) -> Option<&'a mut JSONSchemaProps> {
    let schema = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
    schema.properties.as_mut()?.get_mut(name)
}
