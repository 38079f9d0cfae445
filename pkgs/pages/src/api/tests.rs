use expect_test::expect_file;
use serde_json::{Value, json};

use super::{Group, Site, StaticSiteSpec, crd};

/// `UPDATE_EXPECT=1 cargo test -p pages` writes the files.
#[test]
fn the_definitions_in_manifests_are_those_of_the_types() {
    let text = |group| {
        let yaml = serde_saphyr::to_string(&crd::definition(group)).unwrap();
        format!("# Made from the types in pkgs/pages/src/api; a test compares.\n{yaml}")
    };
    let folder = "../../../../manifests/crd";
    let own = expect_file![format!("{folder}/pages.kiln.local_staticsites.yaml")];
    own.assert_eq(&text(Group::Kiln));
    let other = expect_file![format!("{folder}/pages.kup6s.com_staticsites.yaml")];
    other.assert_eq(&text(Group::Kup6s));
}

#[test]
fn absent_fields_have_kup6s_defaults() {
    let site: Site = serde_json::from_value(json!({
        "apiVersion": "pages.kup6s.com/v1beta1", "kind": "StaticSite",
        "metadata": { "name": "a", "namespace": "team" },
        "spec": { "repo": "https://git.test/a.git", "secretRef": { "name": "s" } },
    }))
    .unwrap();
    let spec = site.spec;
    assert_eq!((spec.branch(), spec.folder(), spec.sync_interval.as_str()), ("main", "", "5m"));
    assert_eq!(spec.secret_ref.unwrap().key, "password");
    let empty = StaticSiteSpec { path: "/dist/".to_owned(), ..StaticSiteSpec::default() };
    assert_eq!((empty.branch(), empty.folder()), ("main", "dist"));
}

#[test]
fn both_groups_have_the_same_fields_and_names() {
    let definition = |group| serde_json::to_value(crd::definition(group)).unwrap();
    let (own, other) = (definition(Group::Kiln), definition(Group::Kup6s));
    assert_eq!(own["spec"]["names"], other["spec"]["names"]);
    assert_eq!(own["spec"]["names"]["shortNames"], json!(["ss", "site"]));
    let fields = |definition: &Value, version: usize| -> Vec<String> {
        let schema = &definition["spec"]["versions"][version]["schema"]["openAPIV3Schema"];
        let fields = schema["properties"]["spec"]["properties"].as_object().unwrap();
        fields.keys().cloned().collect()
    };
    let shared: Vec<String> =
        fields(&own, 0).into_iter().filter(|field| field != "previews").collect();
    assert_eq!(shared.len() + 1, fields(&own, 0).len(), "previews are in our group only");
    assert_eq!(shared, fields(&other, 0));
    assert_eq!(shared, fields(&other, 1));
    let versions = other["spec"]["versions"].as_array().unwrap().iter();
    let stored = versions.filter(|version| version["storage"] == true).count();
    assert_eq!(stored, 1);
}

#[test]
fn conditions_are_a_map_by_type_so_that_two_writers_do_not_collide() {
    let definition = serde_json::to_value(crd::definition(Group::Kiln)).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let conditions = &schema["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    assert!(!serde_json::to_string(schema).unwrap().contains("\"null\""), "a structural schema");
}
