/** Types of the part of Swagger UI that `docs.ts` uses; the package has none. */
declare module "swagger-ui-dist/swagger-ui-es-bundle.js" {
  interface Options {
    readonly dom_id: string;
    readonly url: string;
    readonly deepLinking: boolean;
    readonly validatorUrl: string | null;
    readonly queryConfigEnabled: boolean;
  }
  export default function SwaggerUI(options: Options): unknown;
}
