/* BERT-CNN in plain JavaScript: the fifth spelling, for a single text in a web page.

   The same four steps as in the other spellings, with the same names. There is one text, so no batch and no padding:
   T tokens, D numbers per token, K kernel sizes with F filters each, C classes. A matrix is a Float32Array that holds
   one row after the other. `model` is what `unpack` returns; its weights have the names that PyTorch gives them. */
"use strict";

const bertCNN = (() => {
  // Embed: BERT, one vector per token.

  /** One vector per token, in context: T token ids -> (T, D). */
  function embed(model, ids) {
    const { hidden_size: D, num_hidden_layers } = model.config;
    const weights = (name) => model.weights[`encoder.embeddings.${name}.weight`];
    const [words, positions, types] = ["word", "position", "token_type"].map((name) => weights(`${name}_embeddings`));
    let hidden = new Float32Array(ids.length * D);
    ids.forEach((id, t) => {
      for (let d = 0; d < D; d++) hidden[t * D + d] = words[id * D + d] + positions[t * D + d] + types[d];
    });
    hidden = layerNorm(model, "encoder.embeddings", hidden);
    for (let i = 0; i < num_hidden_layers; i++) hidden = transformerLayer(model, `encoder.encoder.layer.${i}`, hidden);
    return hidden;
  }

  /** Self-attention, then two dense layers; each is added to its input and normalized: (T, D) -> (T, D). */
  function transformerLayer(model, name, hidden) {
    const attended = dense(model, `${name}.attention.output.dense`, attention(model, `${name}.attention.self`, hidden));
    const context = layerNorm(model, `${name}.attention.output`, add(attended, hidden));
    const inner = dense(model, `${name}.intermediate.dense`, context).map(gelu);
    return layerNorm(model, `${name}.output`, add(dense(model, `${name}.output.dense`, inner), context));
  }

  /** Each head's average of all tokens' values, weighted by how well query and key match: (T, D) -> (T, D). */
  function attention(model, name, hidden) {
    const { hidden_size: D, num_attention_heads } = model.config;
    const T = hidden.length / D, size = D / num_attention_heads;
    const [queries, keys, values] = ["query", "key", "value"].map((part) => dense(model, `${name}.${part}`, hidden));
    const context = new Float32Array(T * D), scores = new Float32Array(T);
    for (let head = 0; head < D; head += size) { // the head's first column
      for (let t = 0; t < T; t++) {
        for (let s = 0; s < T; s++) {
          let score = 0;
          for (let d = head; d < head + size; d++) score += queries[t * D + d] * keys[s * D + d];
          scores[s] = score / Math.sqrt(size);
        }
        softmax(scores).forEach((share, s) => {
          for (let d = head; d < head + size; d++) context[t * D + d] += share * values[s * D + d];
        });
      }
    }
    return context;
  }

  // Convolve, pool, classify: the CNN.

  /** ReLU of every k-token window: (T, D) -> K x (W_k, F), W_k = T - k + 1, and 1 for a text of fewer than k tokens. */
  function convolve(model, hidden) {
    const { hidden_size: D, kernel_sizes } = model.config;
    const T = hidden.length / D;
    const padded = new Float32Array((T + Math.max(...kernel_sizes) - 1) * D); // zeros at the end
    padded.set(hidden);
    return kernel_sizes.map((k, i) => {
      const { [`convs.${i}.weight`]: weight, [`convs.${i}.bias`]: bias } = model.weights; // (F, k * D), (F,)
      // The k vectors of a window stand one after the other, so a convolution is a dense layer on overlapping rows.
      return linear(padded, Math.max(1, T - k + 1), D, weight, bias).map(relu);
    });
  }

  /** Each filter's strongest window: K x (W_k, F) -> its value, (K*F,), and the token it starts at, (K*F,). */
  function pool(model, maps) {
    const F = model.config.num_filters;
    const features = new Float32Array(maps.length * F), starts = new Int32Array(maps.length * F);
    maps.forEach((windows, i) => windows.forEach((value, place) => {
      const filter = i * F + (place % F);
      if (value > features[filter]) { // the first of several that are equal; ReLU is never below 0
        features[filter] = value;
        starts[filter] = Math.floor(place / F);
      }
    }));
    return { features, starts };
  }

  /** The hidden layer if there is one, then linear: (K*F,) -> (C,). */
  function classify(model, features) {
    if (model.config.hidden_units) features = dense(model, "hidden_layer", features).map(relu);
    return dense(model, "classifier", features);
  }

  /** All of it, with every step's result: a text -> tokens, hidden, maps, features, starts, logits. */
  function run(model, text) {
    const { tokens, isCut } = tokenize(model.tokenizer, text);
    const hidden = embed(model, tokens.map((token) => token.id));
    const maps = convolve(model, hidden);
    const { features, starts } = pool(model, maps);
    const logits = classify(model, features);
    return { tokens, isCut, hidden, maps, features, starts, logits };
  }

  // Explain: the difference between two logits as a sum over windows.

  /** What `run` returns, the most probable class, and what each window adds to its logit minus the second class's.

      label, against: the two classes, as numbers. difference: their logits' difference, which is `bias` plus the
      windows' values. windows: [{start, size, words, value}], each once, with all its filters; strongest first. */
  function explain(model, text) {
    const found = run(model, text), { features, starts, logits, tokens } = found;
    const [label, against] = [...logits.keys()].sort((a, b) => logits[b] - logits[a]);
    const { kernel_sizes, num_filters } = model.config, windows = new Map();
    const { weights, bias } = direction(model, features, label, against);
    features.forEach((feature, filter) => {
      if (feature === 0) return; // nothing in the text activates this filter
      const size = kernel_sizes[Math.floor(filter / num_filters)], start = starts[filter], key = `${start} ${size}`;
      if (!windows.has(key)) windows.set(key, { start, size, words: wordsOf(text, tokens, start, size), value: 0 });
      windows.get(key).value += weights[filter] * feature;
    });
    const strongest = [...windows.values()].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const probability = softmax(logits)[label], difference = logits[label] - logits[against];
    return { ...found, label, against, probability, difference, bias, windows: strongest };
  }

  /** The weights (K*F,) and the bias that turn these features into one logit minus another. */
  function direction(model, features, label, against) {
    const { "classifier.weight": weight, "classifier.bias": constant } = model.weights;
    const size = weight.length / constant.length;
    const difference = weight.slice(label * size, (label + 1) * size).map((w, i) => w - weight[against * size + i]);
    let bias = constant[label] - constant[against];
    if (!model.config.hidden_units) return { weights: difference, bias };
    const weights = new Float32Array(features.length); // through the units that are on, which are linear
    dense(model, "hidden_layer", features).forEach((value, unit) => {
      if (value <= 0) return;
      bias += difference[unit] * model.weights["hidden_layer.bias"][unit];
      const row = model.weights["hidden_layer.weight"].subarray(unit * features.length, (unit + 1) * features.length);
      row.forEach((weight, filter) => { weights[filter] += difference[unit] * weight; });
    });
    return { weights, bias };
  }

  /** The text that a window reads, in whole words, with [CLS] and [SEP] where it holds them. */
  function wordsOf(text, tokens, start, size) {
    const inside = tokens.slice(start, start + size), spans = inside.filter((token) => token.end > token.start);
    const words = spans.length ? text.slice(spans[0].start, spans.at(-1).end).replace(/\s+/g, " ") : "";
    const ends = [inside[0], inside.at(-1)].map((token) => (token.end > token.start ? "" : token.piece));
    return [ends[0], words, inside.length > 1 ? ends[1] : ""].filter(Boolean).join(" ");
  }

  // Tokenize: WordPiece, exactly as the encoder's own tokenizer does it.

  const PLAIN = 0, DROPPED = 1, SPACE = 2, ALONE = 3; // what the tokenizer does with a character (tools/browser.py)

  /** tokens: [{id, piece, start, end}], at most max_length, [CLS] first and [SEP] last; start and end are those of the
      token's word in the text. isCut: whether the text has more of them. */
  function tokenize(tokenizer, text) {
    const { vocabulary, first, last, max_length } = tokenizer;
    const place = (id, start = 0, end = 0) => ({ id, piece: vocabulary[id], start, end });
    const tokens = [];
    for (const word of splitWords(tokenizer, text)) {
      for (const id of pieces(tokenizer, word)) tokens.push(place(id, word.start, word.end));
      if (tokens.length > max_length - 2) break;
    }
    const isCut = tokens.length > max_length - 2;
    return { tokens: [place(first), ...tokens.slice(0, max_length - 2), place(last)], isCut };
  }

  /** Words [{characters, start, end}]: lower case, without accents and control characters, punctuation apart.
      A special token such as [MASK] that stands in the text is a word with an id. */
  function* splitWords({ special, kinds }, text) {
    const contents = [...special.keys()].map((content) => content.replace(/\W/g, "\\$&"));
    let at = 0;
    for (const part of text.split(new RegExp(`(${contents.join("|")})`))) {
      if (special.has(part)) {
        yield { id: special.get(part), start: at, end: at + part.length };
        at += part.length;
        continue;
      }
      let word = { characters: [], start: at };
      for (const character of part) {
        const kind = kinds[character.codePointAt(0)], end = at + character.length;
        if (kind === SPACE || kind === ALONE) {
          if (word.characters.length) yield word;
          word = { characters: [], start: at };
        }
        if (kind === PLAIN || kind === ALONE) {
          if (!word.characters.length) word.start = at;
          for (const letter of character.normalize("NFD")) {
            if (kinds[letter.codePointAt(0)] !== DROPPED) word.characters.push(...letter.toLowerCase());
          }
          word.end = end;
        }
        if (kind === ALONE) {
          yield word;
          word = { characters: [], start: end };
        }
        at = end;
      }
      if (word.characters.length) yield word;
    }
  }

  /** The ids of a word's pieces: each time the longest that the vocabulary has. */
  function pieces({ ids, unknown, max_characters }, { id, characters }) {
    if (id !== undefined) return [id];
    if (characters.length > max_characters) return [unknown];
    const found = [];
    for (let start = 0, end; start < characters.length; start = end) {
      const piece = () => ids.get((start ? "##" : "") + characters.slice(start, end).join(""));
      end = characters.length;
      while (end > start && piece() === undefined) end--;
      if (end === start) return [unknown];
      found.push(piece());
    }
    return found;
  }

  // Arithmetic.

  /** weight (outputs, size), bias (outputs,): n rows of `size` numbers of x, one every `step` -> (n, outputs). */
  function linear(x, n, step, weight, bias) {
    const outputs = bias.length, size = weight.length / outputs, y = new Float32Array(n * outputs);
    for (let output = 0; output < outputs; output++) {
      for (let a = 0; a < n; a += 4) { // four rows at a time, so that each weight is fetched once for all four
        const b = Math.min(a + 1, n - 1), c = Math.min(a + 2, n - 1), d = Math.min(a + 3, n - 1);
        let sumA = bias[output], sumB = sumA, sumC = sumA, sumD = sumA;
        for (let i = 0, w = output * size; i < size; i++, w++) {
          sumA += weight[w] * x[a * step + i];
          sumB += weight[w] * x[b * step + i];
          sumC += weight[w] * x[c * step + i];
          sumD += weight[w] * x[d * step + i];
        }
        y[a * outputs + output] = sumA;
        y[b * outputs + output] = sumB;
        y[c * outputs + output] = sumC;
        y[d * outputs + output] = sumD;
      }
    }
    return y;
  }

  /** The dense layer of this name, on each row. */
  function dense(model, name, x) {
    const { [`${name}.weight`]: weight, [`${name}.bias`]: bias } = model.weights;
    const size = weight.length / bias.length;
    return linear(x, x.length / size, size, weight, bias);
  }

  /** Each row of D numbers with mean 0 and variance 1, then scaled and shifted: (T, D) -> (T, D). */
  function layerNorm(model, name, x) {
    const { hidden_size: D, layer_norm_eps } = model.config;
    const { [`${name}.LayerNorm.weight`]: weight, [`${name}.LayerNorm.bias`]: bias } = model.weights;
    const y = new Float32Array(x.length);
    for (let row = 0; row < x.length; row += D) {
      const numbers = x.subarray(row, row + D);
      const mean = numbers.reduce((sum, number) => sum + number, 0) / D;
      const variance = numbers.reduce((sum, number) => sum + (number - mean) ** 2, 0) / D;
      const scale = 1 / Math.sqrt(variance + layer_norm_eps);
      for (let d = 0; d < D; d++) y[row + d] = (numbers[d] - mean) * scale * weight[d] + bias[d];
    }
    return y;
  }

  const relu = (x) => Math.max(x, 0);
  const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))); // its tanh form
  const add = (x, y) => x.map((number, i) => number + y[i]);

  function softmax(scores) {
    const largest = Math.max(...scores), shares = scores.map((score) => Math.exp(score - largest));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.map((share) => share / total);
  }

  /** The number that 16 bits stand for: a sign, 5 bits of exponent, 10 bits of fraction. */
  function halfPrecision(bits) {
    const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    return bits >> 15 ? -size : size;
  }

  /** The file that tools/browser.py writes -> a model. Raises an Error if the weights are cut short. */
  function unpack({ config, tokenizer, shapes, halves }) {
    const bytes = atob(halves), numbers = new Float32Array(bytes.length / 2), weights = {};
    const values = Float32Array.from({ length: 65536 }, (_, bits) => halfPrecision(bits));
    for (let i = 0; i < numbers.length; i++) {
      numbers[i] = values[bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)];
    }
    let end = 0;
    for (const [name, shape] of shapes) {
      const start = end;
      end += shape.reduce((product, size) => product * size, 1);
      weights[name] = numbers.subarray(start, end);
    }
    if (end !== numbers.length) throw new Error("The weights are cut short.");
    const ids = new Map(tokenizer.vocabulary.map((piece, id) => [piece, id])), special = new Map(tokenizer.special);
    const kinds = new Uint8Array(0x110000); // of every character
    tokenizer.kinds.forEach(([start, kind], i, all) => kinds.fill(kind, start, all[i + 1]?.[0]));
    return { config, tokenizer: { ...tokenizer, ids, special, kinds }, weights };
  }

  return { unpack, tokenize, embed, convolve, pool, classify, run, explain };
})();
