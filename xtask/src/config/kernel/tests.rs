use expect_test::expect;

use super::Group;
use crate::config::tests::{check, files, load, sample};

fn names(groups: &[Group]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

#[test]
fn a_kernel_s_file_chooses_groups() {
    let kernel = load(&files(), "/r/build.toml").unwrap().kernel;
    assert_eq!(names(&kernel.groups), ["nfs"]);
    assert_eq!(names(&kernel.left_out), ["xfs"]);
}

#[test]
fn a_build_file_chooses_groups_and_adds_modules() {
    let lines = "module-groups = [\"xfs\"]\nmodules = [\"mlx5_core\"]\nkernel =";
    let kernel = sample("/r/build.toml", "kernel =", lines).kernel;
    assert_eq!(names(&kernel.groups), ["xfs", "modules of the build file"]);
    assert_eq!(kernel.groups[1].modules, ["mlx5_core"]);
    assert_eq!(names(&kernel.left_out), ["nfs"]);
    let kernel = sample("/r/build.toml", "kernel =", "module-groups = []\nkernel =").kernel;
    assert_eq!((names(&kernel.groups), kernel.left_out.len()), (Vec::new(), 2));
}

#[test]
fn an_unknown_group_is_named_with_the_known_ones() {
    check(
        "/r/build.toml",
        "kernel =",
        "module-groups = [\"nfs\", \"smb\"]\nkernel =",
        expect![
            "/r/build.toml:3: `module-groups`: there is no group of modules `smb`; /r/kernel/k.toml has nfs, xfs"
        ],
    );
    check(
        "/r/kernel/k.toml",
        "groups = [\"nfs\"]",
        "groups = [\"smb\"]",
        expect![
            "/r/kernel/k.toml:5: `groups`: there is no group of modules `smb`; /r/kernel/k.toml has nfs, xfs"
        ],
    );
}

#[test]
fn a_bad_value_is_named_with_a_good_one() {
    check(
        "/r/kernel/k.toml",
        "\"erofs\"",
        "\"erofs.ko\"",
        expect![
            "/r/kernel/k.toml:2: `early-modules`: a module's name has letters, digits and `_` only"
        ],
    );
    check(
        "/r/kernel/k.toml",
        "\"m\"",
        "\"n\"",
        expect![[
            r#"/r/kernel/k.toml: [options] `CONFIG_EROFS_FS` = `n`: write CONFIG_NAME = "y" or "m""#
        ]],
    );
}
