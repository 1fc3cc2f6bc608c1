/** What `modal-sb init` can begin a project with. */
export const templateNames = ["ml", "code", "empty"] as const;
export type TemplateName = (typeof templateNames)[number];

export interface InitRequest {
  /** the project; undefined: the working folder */
  folder: string | undefined;
  template: TemplateName;
  /** replace files that differ */
  force: boolean;
}
