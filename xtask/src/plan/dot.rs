//! A plan as a picture, for `plan --dot`.

use std::fmt::Write;

use super::Plan;

pub(super) fn render(plan: &Plan) -> String {
    let mut out = String::from(
        "digraph plan {\n  rankdir = LR;\n  node [shape = box, fontname = \"sans-serif\"];\n",
    );
    for step in plan.steps.values() {
        let shape = if step.action.is_fetch() { ", style = dashed" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  \"{0}\" [tooltip = \"{1}\"{shape}];", step.name, step.digest);
        for need in &step.needs {
            let _ = writeln!(out, "  \"{need}\" -> \"{}\";", step.name);
        }
    }
    out.push_str("}\n");
    out
}
