// What the eraser files say of themselves, which the host has in the loader's list: on the loader as soon as a file is chosen,
// and as a menu of names for the Eraser's "concepts". That stays a text: where no file is known before the run, as behind a
// Train node, the names are typed.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const AFTER = 200; // milliseconds, in which a front end has cleared its texts when a run ends
let pointer; // the latest event, where a menu opens
window.addEventListener("pointerdown", (event) => (pointer = event), true);

const ENGLISH = { choose: "choose concepts", all: "all of them", connect: "connect Load UnHype Eraser to see the names of its file" };
let words = ENGLISH; // in the page's language, once it is known (locales/)

async function translated() {
  const every = await (await api.fetchApi("/i18n")).json();
  words = { ...ENGLISH, ...every[app.extensionManager.setting.get("Comfy.Locale")]?.unhype };
}

const widget = (node, name) => node.widgets?.find((w) => w.name === name);
const input = (node, name) => node.getInputNode(node.inputs.findIndex((i) => i.name === name));

async function said() {
  const reply = await api.fetchApi("/object_info/UnHypeLoader");
  return (await reply.json()).UnHypeLoader.input.required.file[1].erasers;
}

async function tell(...loaders) {
  const every = await said();
  for (const node of loaders) {
    const text = every[widget(node, "file").value]?.text;
    const shown = app.graph.getNodeById(node.id) === node; // not one of the same number inside a subgraph
    if (text && shown) api.dispatchCustomEvent("progress_text", { nodeId: String(node.id), text });
  }
}

function files(node) {
  if (node?.type === "UnHypeLoader") return [widget(node, "file").value];
  if (node?.type === "UnHypeMerge") return [...files(input(node, "unhype")), ...files(input(node, "unhype_2"))];
  return node?.type === "Reroute" ? files(node.getInputNode(0)) : [];
}

async function offer(node) {
  const text = widget(node, "concepts");
  const known = await said();
  const every = files(input(node, "unhype")).flatMap((file) => known[file]?.concepts ?? []);
  const wanted = text.value.toLowerCase().split(",").map((name) => name.trim()).filter(Boolean);
  const on = (name) => !wanted.length || wanted.includes(name.toLowerCase());
  const write = (chosen) => {
    text.value = chosen.length === every.length ? "" : chosen.join(", ");
    text.callback?.(text.value);
    node.setDirtyCanvas(true, true);
  };
  const items = every.map((name) => {
    const others = every.filter((other) => other !== name && on(other));
    const all = every.filter((other) => other === name || on(other));
    const shown = name.replaceAll("<", "‹"); // a menu's content is HTML
    return { content: `${on(name) ? "☑" : "☐"} ${shown}`, disabled: on(name) && !others.length, callback: () => write(on(name) ? others : all) };
  });
  if (every.length) items.unshift({ content: words.all, callback: () => write(every) });
  else items.push({ content: words.connect, disabled: true });
  new window.LiteGraph.ContextMenu(items, { event: pointer, title: "concepts" });
}

app.registerExtension({
  name: "unhype.erasers",
  setup() {
    const loaders = () => app.graph.nodes.filter((node) => node.type === "UnHypeLoader");
    for (const ending of ["execution_success", "execution_error", "execution_interrupted"]) {
      api.addEventListener(ending, () => setTimeout(() => tell(...loaders()), AFTER));
    }
  },
  nodeCreated(node) {
    if (node.comfyClass === "UnHypeLoader") {
      const file = widget(node, "file");
      const chosen = file.callback;
      file.callback = (...values) => {
        chosen?.apply(file, values);
        tell(node);
      };
      setTimeout(() => node.graph && tell(node), AFTER); // once it is in the graph with the values that it was saved with
    }
    if (node.comfyClass === "UnHypeEraser") {
      const button = node.addWidget("button", "choose concepts", null, () => offer(node), { serialize: false });
      button.serialize = false;
      translated().then(() => (button.label = words.choose));
    }
  },
});
