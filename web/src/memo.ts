// Draws a component again only when what it is given has changed.
import { Component, type ComponentType, h } from "preact";

export function memo<P extends object>(C: ComponentType<P>): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P) {
      const old = this.props as Record<string, unknown>;
      return Object.entries(next).some(([k, v]) => old[k] !== v);
    }
    render() {
      return h(C as ComponentType<object>, this.props as object);
    }
  } as unknown as ComponentType<P>;
}
