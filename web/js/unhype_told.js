// What our nodes tell comes as the host's progress text. Front ends from about 1.50 on take that away when the run ends:
// then it is shown once more, so that it can be read beside the picture.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const AFTER = 100; // milliseconds, in which the front end has cleared its texts
const ENDINGS = ["execution_success", "execution_error", "execution_interrupted"];
let told = new Map(); // text by node, of the run at hand

app.registerExtension({
  name: "unhype.told",
  setup() {
    api.addEventListener("execution_start", () => told.clear());
    api.addEventListener("progress_text", ({ detail }) => told.set(detail.nodeId, detail.text));
    for (const ending of ENDINGS) {
      api.addEventListener(ending, () => {
        const ended = told;
        told = new Map();
        setTimeout(() => {
          for (const [nodeId, text] of ended) {
            const node = app.graph.getNodeById(nodeId);
            if (node?.type?.startsWith("UnHype")) api.dispatchCustomEvent("progress_text", { nodeId, text });
          }
        }, AFTER);
      });
    }
  },
});
