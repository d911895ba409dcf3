"""An explorer in a running notebook: the player asks for one frame at a time, the kernel answers.

Apart from `explorer`, so that headless runs need no widgets.
"""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from labkit.lessons._pages import CSS, PLAYER
from labkit.lessons._stage import png
from labkit.lessons.explorer import Explorer

__all__ = ["Live"]

# Several views may show one model: each adds its own mark to what it asks.
VIEW = """
export default { render({ model, el }) {
  const mark = Math.random() + ':', waiting = new Map();
  let asked = 0;
  const answer = (reply, [bytes]) => {
    const src = bytes && URL.createObjectURL(new Blob([bytes], {type: 'image/png'}));
    waiting.get(reply.id)?.({...reply, src});
    waiting.delete(reply.id);
  };
  model.on('msg:custom', answer);
  el.classList.add('explorer');
  player(el, model.get('spec'), at => new Promise(done => {
    const id = mark + asked++;
    waiting.set(id, done);
    model.send({id, at, ratio: devicePixelRatio});
  }));
  return () => model.off('msg:custom', answer);
} }"""


class Live(anywidget.AnyWidget):
    """The player in a notebook; answers each question with a frame, or says in one line why there is none."""

    _esm, _css = PLAYER + VIEW, CSS
    spec = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Explorer) -> None:
        super().__init__(spec=explorer.spec())
        self.explorer = explorer
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, question: dict[str, Any], _buffers: Any) -> None:
        chosen = zip(self.explorer.controls, question["at"], strict=True)
        values = {control.name: control.values[i] for control, i in chosen}
        try:
            frame = self.explorer.frame(values, dpi=100 * min(2, max(1, question["ratio"])))
        except BaseException as error:  # an interrupt is answered too, else the player would wait for ever
            reason = f"{self.explorer.name(values)}: {type(error).__name__}: {error}"
            self.send({"id": question["id"], "error": reason})
            if not isinstance(error, Exception):
                raise
        else:
            self.send({"id": question["id"], "text": frame.text, "spots": frame.spots}, [png(frame.pixels)])
