/* The box in which a reader asks the model: the class, and what each window of the text adds to its logit. */
"use strict";

(() => {
  const ROWS = 5; // windows shown one by one
  const WEIGHTS = new URL("bert_cnn_weights.js", document.currentScript.src);
  const FAILED = "The model could not be loaded: bert_cnn_weights.js is missing or damaged. Build the book again.";

  let model; // a promise, from the first use on

  /** The model. Its file is a script, because a page opened from a folder may fetch nothing else. */
  function load() {
    model ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: WEIGHTS, onload: resolve, onerror: reject });
      document.head.append(script);
    }).then(() => bertCNN.unpack(bertCNN.file));
    model.catch(() => { model = undefined; }); // the next use tries again
    return model;
  }

  /** Numbers -> whole thousandths that add up to their rounded total. Each is rounded down, then those with the largest
      remainders are rounded up instead, so that the numbers shown add up to the last digit. */
  function round(numbers) {
    const exact = numbers.map((number) => number * 1000), rounded = exact.map(Math.floor);
    const sum = (all) => all.reduce((total, number) => total + number, 0);
    const remainders = exact.map((number, i) => number - rounded[i]);
    const order = [...exact.keys()].sort((a, b) => remainders[b] - remainders[a]);
    order.slice(0, Math.round(sum(exact)) - sum(rounded)).forEach((i) => { rounded[i] += 1; });
    return rounded;
  }

  const signed = (thousandths) => (thousandths < 0 ? "−" : "+") + (Math.abs(thousandths) / 1000).toFixed(3);

  /** 0.934 -> "93.4%"; never "100.0%", as the model is never certain. */
  const percent = (share) => (share > 0.999 ? "more than 99.9%" : `${(100 * share).toFixed(1)}%`);

  /** The table's rows, [words, tokens, value]: the strongest windows, all others together, the bias. */
  function rows({ windows, bias }) {
    const others = windows.slice(ROWS), rest = others.reduce((total, window) => total + window.value, 0);
    const found = windows.slice(0, ROWS).map(({ words, size, value }) => [words, size, value]);
    if (others.length) found.push([`all other windows (${others.length})`, "", rest]);
    found.push(["the classifier's bias", "", bias]);
    const values = round(found.map((row) => row[2]));
    return found.map(([words, size], i) => [words, size, values[i]]);
  }

  /** A row of the table, with a bar under the value that is as long as its share of the largest. */
  function line([words, size, value], largest) {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.append(words);
    row.append(head);
    [size, signed(value)].forEach((content) => row.insertCell().append(content));
    row.lastChild.style.setProperty("--share", Math.abs(value) / largest);
    row.lastChild.className = value < 0 ? "against" : "for";
    return row;
  }

  function show(box, labels, found) {
    const [label, against] = [labels[found.label], labels[found.against]];
    const all = rows(found), total = all.reduce((sum, row) => sum + row[2], 0);
    const largest = Math.max(...all.map((row) => Math.abs(row[2])), 1);
    const cut = found.isCut ? ` Only the first ${found.tokens.length} tokens were read.` : "";
    const answer = document.createElement("strong");
    answer.append(label);
    box.querySelector("[role=status]").replaceChildren(answer, `, with a probability of ${percent(found.probability)}.${cut}`);
    box.querySelector("caption").textContent =
      `What each window of the text adds to the logit of ${label} minus the logit of ${against}:`;
    const sum = line(["sum", "", total], Infinity);
    box.querySelector("tbody").replaceChildren(...all.map((row) => line(row, largest)), sum);
    box.querySelector("table").hidden = false;
  }

  async function answer(box) {
    const status = box.querySelector("[role=status]"), text = box.querySelector("textarea").value;
    box.querySelector("table").hidden = true;
    if (!text.trim()) {
      status.textContent = "Write a sentence first.";
      return;
    }
    status.textContent = "Reading …";
    await new Promise((shown) => setTimeout(shown, 20)); // the page says so before it computes
    let loaded;
    try {
      loaded = await load();
    } catch {
      status.textContent = FAILED;
      return;
    }
    show(box, loaded.config.labels, bertCNN.explain(loaded, text));
  }

  for (const box of document.querySelectorAll("form.bert-cnn-box")) {
    box.addEventListener("submit", (event) => {
      event.preventDefault();
      answer(box);
    });
    const field = box.querySelector("textarea");
    field.addEventListener("input", load, { once: true }); // while the reader is still writing
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        box.requestSubmit();
      }
    });
  }
})();
