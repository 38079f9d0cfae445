//! A plan as a picture, for `plan --dot`.

use std::fmt::Write;

use super::Plan;

impl Plan {
    /// Draws the steps and the steps that each needs, in the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut out = String::from(
            "digraph plan {\n  rankdir = LR;\n  node [shape = box, fontname = \"sans-serif\"];\n",
        );
        for step in self.steps.values() {
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
}
