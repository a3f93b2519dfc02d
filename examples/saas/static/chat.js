"use strict";
// Reads the events of a reply as they come. A refusal has a status of its own, and says when to come back.
const form = document.getElementById("ask");
const answer = document.getElementById("answer");
const charge = document.getElementById("charge");

function event(block) {
  const lines = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  return { name: lines.event, data: JSON.parse(lines.data) };
}

function refused(body) {
  answer.className = "error";
  answer.textContent = body.error.message;
  if (body.error.code === "budget_exceeded") {
    const until = body.error.resets_at ? ` It is open again at ${new Date(body.error.resets_at).toLocaleString()}, or on a larger plan.` : "";
    answer.textContent += until;
  }
}

form.addEventListener("submit", async (e) => {
  e.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  answer.className = "";
  answer.textContent = "";
  try {
    const response = await fetch("/api/chat/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ question: document.getElementById("question").value }),
    });
    if (!response.ok) {
      refused(await response.json());
      return;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const blocks = (rest + part.value).split("\n\n");
      rest = blocks.pop();
      for (const { name, data } of blocks.map(event)) {
        if (name === "text") answer.textContent += data.text;
        else if (name === "done") charge.textContent = `Charged: $${data.charge}`;
        else answer.textContent += ` (${data.message})`;
      }
    }
  } catch (error) {
    answer.className = "error";
    answer.textContent = "The service cannot be reached.";
  } finally {
    button.disabled = false;
  }
});
