// The Eraser's "concepts" is a text. A button below it offers the names in the file that is linked, which the host cannot know
// before it runs; where no file is known, as behind a Train node that did not run yet, they are typed.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

let pointer; // the latest event, where a menu opens
window.addEventListener("pointerdown", (event) => (pointer = event), true);

const widget = (node, name) => node.widgets?.find((w) => w.name === name);
const input = (node, name) => node.getInputNode(node.inputs.findIndex((i) => i.name === name));

function files(node) {
  if (node?.type === "UnHypeLoader") return [widget(node, "file").value];
  if (node?.type === "UnHypeMerge") return [...files(input(node, "unhype")), ...files(input(node, "unhype_2"))];
  return node?.type === "Reroute" ? files(node.getInputNode(0)) : [];
}

async function names(file) {
  const reply = await api.fetchApi(`/view_metadata/unhype?filename=${encodeURIComponent(file)}`);
  if (!reply.ok) return [];
  const concepts = JSON.parse((await reply.json()).unhype ?? "{}").concepts ?? [];
  return concepts.map((concept) => concept.name);
}

async function offer(node) {
  const text = widget(node, "concepts");
  const every = (await Promise.all(files(input(node, "unhype")).map(names))).flat();
  const wanted = text.value.toLowerCase().split(",").map((name) => name.trim()).filter(Boolean);
  const on = (name) => !wanted.length || wanted.includes(name.toLowerCase());
  const write = (chosen) => {
    text.value = chosen.length === every.length ? "" : chosen.join(", ");
    text.callback?.(text.value);
    node.setDirtyCanvas(true, true);
  };
  const items = every.map((name) => {
    const others = every.filter((other) => other !== name && on(other));
    const chosen = every.filter((other) => other === name || on(other));
    return { content: `${on(name) ? "☑" : "☐"} ${name}`, disabled: on(name) && !others.length, callback: () => write(on(name) ? others : chosen) };
  });
  if (every.length) items.unshift({ content: "all of them", callback: () => write(every) });
  else items.push({ content: "connect Load UnHype Eraser to see the names of its file", disabled: true });
  new window.LiteGraph.ContextMenu(items, { event: pointer, title: "concepts", scale: 1 });
}

app.registerExtension({
  name: "unhype.concepts",
  nodeCreated(node) {
    if (node.comfyClass !== "UnHypeEraser") return;
    const button = node.addWidget("button", "choose concepts", null, () => offer(node), { serialize: false });
    button.serialize = false;
  },
});
